//! Folders that are read in a copy of their file system which stands still, and saved as if they were read in place.

use super::Frozen;
use crate::error::{RepoError, RepoResult};
use std::borrow::Cow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where things are read.
#[derive(Default)]
pub(super) struct Places {
    /// The innermost first.
    folders: Vec<Frozen>,
    /// Numbers of the copies' file systems, and of those they stand for: a copy has another number each time, which
    /// would make every folder look changed.
    devices: Vec<(u64, u64)>,
}

impl Places {
    pub(super) fn new(frozen: &[Frozen]) -> RepoResult<Self> {
        let device = |path: &PathBuf| {
            let found = path.symlink_metadata();
            found.map(|m| m.dev()).map_err(|error| RepoError::File {
                path: path.clone(),
                error,
            })
        };
        let mut devices = Vec::new();
        for folder in frozen.iter().filter(|f| f.place != f.copy) {
            devices.push((device(&folder.copy)?, device(&folder.place)?));
        }
        let mut folders = frozen.to_vec();
        folders.sort_by_key(|f| std::cmp::Reverse(f.place.components().count()));
        Ok(Self { folders, devices })
    }

    /// Where a path is read.
    pub(super) fn read_at<'a>(&self, path: &'a Path) -> Cow<'a, Path> {
        let inside = |f: &Frozen| Some((f.copy.clone(), path.strip_prefix(&f.place).ok()?));
        match self.folders.iter().find_map(inside) {
            // Joined with nothing, a path would end in a slash.
            Some((copy, rest)) if rest.as_os_str().is_empty() => Cow::Owned(copy),
            Some((copy, rest)) => Cow::Owned(copy.join(rest)),
            None => Cow::Borrowed(path),
        }
    }

    /// Whether something else is read at exactly this path than in the folder around it.
    pub(super) fn begins_at(&self, path: &Path) -> bool {
        self.folders.iter().any(|f| f.place == path)
    }

    /// The number of the file system that a copy's stands for.
    pub(super) fn device(&self, device: u64) -> u64 {
        let found = self.devices.iter().find(|(copy, _)| *copy == device);
        found.map_or(device, |(_, place)| *place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_place_holds() {
        let frozen = |place: &str, copy: &str| Frozen {
            place: place.into(),
            copy: copy.into(),
        };
        let places = Places {
            folders: {
                let all = [frozen("/a", "/copy"), frozen("/a/b/c", "/a/b/c")];
                let mut all = all.to_vec();
                all.sort_by_key(|f| std::cmp::Reverse(f.place.components().count()));
                all
            },
            devices: vec![(7, 3)],
        };
        for (path, expected) in [
            ("/", "/"),
            ("/a", "/copy"),
            ("/a/b", "/copy/b"),
            ("/a/b/c", "/a/b/c"),
            ("/a/b/c/d", "/a/b/c/d"),
            ("/ab", "/ab"),
        ] {
            let read = places.read_at(Path::new(path)).into_owned();
            assert_eq!(read.as_os_str(), expected, "{path}");
        }
        assert!(places.begins_at(Path::new("/a/b/c")) && !places.begins_at(Path::new("/a/b")));
        assert_eq!((places.device(7), places.device(8)), (3, 8));
    }
}

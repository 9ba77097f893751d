//! From the settings of a Storage Vault to the storage they name (reference, section 14).

use crate::{Backend, Cloud, Local, Rest, S3, StorageError, StorageResult};
use encke_api::constants::{
    DESTINATIONTYPE_AZUREBLOB, DESTINATIONTYPE_B2, DESTINATIONTYPE_COMET, DESTINATIONTYPE_FTP,
    DESTINATIONTYPE_LOCALCOPY, DESTINATIONTYPE_S3, DESTINATIONTYPE_SFTP, DESTINATIONTYPE_SMB,
    DESTINATIONTYPE_SPANNED, DESTINATIONTYPE_STORJ, DESTINATIONTYPE_SWIFT, DESTINATIONTYPE_WEBDAV,
    OBJECT_LOCK_LEGACY, OBJECT_LOCK_ON,
};
use encke_api::types::DestinationLocation;
use std::sync::Arc;

/// What people call a type of storage; nothing for a number that names none.
#[must_use]
pub fn kind_name(destination_type: u64) -> Option<&'static str> {
    Some(match destination_type {
        DESTINATIONTYPE_S3 => "S3-compatible",
        DESTINATIONTYPE_SFTP => "SFTP",
        DESTINATIONTYPE_LOCALCOPY => "local path",
        DESTINATIONTYPE_COMET => "Storage Role",
        DESTINATIONTYPE_FTP => "FTP",
        DESTINATIONTYPE_AZUREBLOB => "Azure Blob Storage",
        DESTINATIONTYPE_SPANNED => "spanned",
        DESTINATIONTYPE_SWIFT => "OpenStack Swift",
        DESTINATIONTYPE_B2 => "Backblaze B2",
        DESTINATIONTYPE_STORJ => "Storj",
        DESTINATIONTYPE_WEBDAV => "WebDAV",
        DESTINATIONTYPE_SMB => "SMB",
        _ => return None,
    })
}

/// Opens the place that a Storage Vault's settings name. Nothing is asked of it yet. `bucket_key` is the key of a
/// bucket on a Storage Role, in clear.
///
/// # Errors
/// Settings that make no sense, or a kind that is not reached yet.
pub fn open_place(location: &DestinationLocation, bucket_key: &str) -> StorageResult<Arc<dyn Backend>> {
    let invalid = |message: &str| Err(StorageError::Invalid(message.into()));
    match location.destination_type {
        DESTINATIONTYPE_LOCALCOPY => {
            if !location.localcopy_path.starts_with('/') {
                return invalid("the local path must be absolute");
            }
            Ok(Arc::new(Local::new(&location.localcopy_path)))
        }
        DESTINATIONTYPE_COMET => {
            let server = location.comet_server.trim_end_matches('/');
            if !server.starts_with("http://") && !server.starts_with("https://") {
                return Err(StorageError::Invalid(format!(
                    "the server '{server}' is not an http or https address"
                )));
            }
            let url = format!("{server}/storage/{}/", location.comet_bucket);
            let credentials = (location.comet_bucket.as_str(), bucket_key);
            Ok(Arc::new(Rest::new(&url, Some(credentials))))
        }
        DESTINATIONTYPE_S3 => Ok(Arc::new(Cloud::s3(&s3_place(location)?)?)),
        DESTINATIONTYPE_WEBDAV => {
            let dav = &location.web_dav;
            if !dav.dav_server.starts_with("http://") && !dav.dav_server.starts_with("https://") {
                return Err(StorageError::Invalid(format!(
                    "the WebDAV server '{}' is not an http or https address",
                    dav.dav_server
                )));
            }
            let dav = Cloud::webdav(&dav.dav_server, &dav.path, &dav.user_name, &dav.access_key)?;
            Ok(Arc::new(dav))
        }
        other => match kind_name(other) {
            Some(name) => Err(StorageError::Unsupported(format!("storage of the kind {name}"))),
            None => Err(StorageError::Invalid(format!(
                "{other} is not a type of storage that a Storage Vault can have"
            ))),
        },
    }
}

/// The place of an S3 location. The server may be written with or without scheme.
///
/// # Errors
/// Settings that make no sense, or that ask for what is not done yet.
pub fn s3_place(location: &DestinationLocation) -> StorageResult<S3> {
    if location.s3_server.is_empty() {
        return Err(StorageError::Invalid("the S3 server is missing".into()));
    }
    if location.s3_uses_v2_signing {
        return Err(StorageError::Unsupported(
            "S3 signatures of version 2; all services of today take version 4".into(),
        ));
    }
    let locks = location.s3_object_lock_mode == OBJECT_LOCK_ON
        || (location.s3_object_lock_mode == OBJECT_LOCK_LEGACY && location.s3_object_lock_days > 0);
    if locks {
        return Err(StorageError::Unsupported("object lock".into()));
    }
    let endpoint = if location.s3_server.contains("://") {
        location.s3_server.clone()
    } else if location.s3_uses_tls {
        format!("https://{}", location.s3_server)
    } else {
        format!("http://{}", location.s3_server)
    };
    Ok(S3 {
        endpoint,
        region: location.s3_custom_region.clone(),
        bucket: location.s3_bucket_name.clone(),
        prefix: location.s3_subdir.clone(),
        access_key: location.s3_access_key.clone(),
        secret_key: location.s3_secret_key.clone(),
    })
}

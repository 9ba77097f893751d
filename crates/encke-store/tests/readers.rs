//! Long lists and the readers they hold.

#![allow(clippy::unwrap_used)]

use encke_store::{Scope, Store};
use std::sync::mpsc;
use std::time::Duration;

/// More lists than readers stay open.
const LISTS: usize = 30;

#[tokio::test]
async fn lists_that_are_taken_slowly_do_not_stop_other_calls() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("encke.db")).unwrap();
    let (begun, all_begun) = mpsc::channel();
    let mut lists = Vec::new();
    for _ in 0..LISTS {
        let (begun, (release, wait)) = (begun.clone(), mpsc::channel::<()>());
        let store = store.clone();
        let list = tokio::spawn(async move {
            store
                .read(move |sql| {
                    let found = sql.first("SELECT 1", &[], |row| row.int(0))?;
                    begun.send(()).unwrap();
                    // Until it is released; an early end of the test releases it too.
                    let _ = wait.recv();
                    Ok(found)
                })
                .await
        });
        lists.push((list, release));
    }
    let patience = Duration::from_secs(60);
    tokio::task::spawn_blocking(move || {
        for n in 0..LISTS {
            all_begun
                .recv_timeout(patience)
                .unwrap_or_else(|_| panic!("only {n} lists could begin"));
        }
    })
    .await
    .unwrap();
    let names = tokio::time::timeout(patience, store.usernames(&Scope::All)).await;
    assert!(names.expect("the call waits for the lists").unwrap().is_empty());
    for (list, release) in lists {
        drop(release);
        assert_eq!(list.await.unwrap().unwrap(), Some(1));
    }
    // The readers that were opened for the moment are closed; the others still serve.
    assert!(store.usernames(&Scope::All).await.unwrap().is_empty());
}

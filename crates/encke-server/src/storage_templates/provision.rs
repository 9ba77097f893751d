//! Makes the place for a Storage Vault by a template, and takes away what was made when a later step fails.

use super::{aws, custom, kind_name, other_role, secrets};
use crate::app::App;
use crate::storage_role::{self, Key, ping};
use encke_api::constants::{
    DESTINATIONTYPE_B2, DESTINATIONTYPE_COMET, DESTINATIONTYPE_S3, DESTINATIONTYPE_STORJ, REMOTESERVER_AWS,
    REMOTESERVER_B2, REMOTESERVER_COMET, REMOTESERVER_COMET_STORAGE, REMOTESERVER_CUSTOM,
    REMOTESERVER_IDRIVEE2, REMOTESERVER_S3_GENERIC, REMOTESERVER_STORJ, REMOTESERVER_WASABI,
};
use encke_api::types::{DestinationLocation, RemoteStorageOption};
use encke_api::{ApiError, ApiResult};
use encke_store::Scope;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// Pauses between the tries of a new key: services take a moment to know it everywhere.
const PAUSES: [u64; 5] = [0, 1, 2, 4, 8];

/// Who asks for a place, and for whom.
pub(super) struct Order<'a> {
    /// Name of the caller.
    pub actor: &'a str,
    /// Organization of the account.
    pub organization: &'a str,
    /// Address at which devices reach this server, with a slash at the end.
    pub address: String,
}

type Step = Pin<Box<dyn Future<Output = ApiResult<()>> + Send>>;

/// What was made so far, and how to take it away.
#[derive(Default)]
pub(super) struct Undo(Vec<(String, Step)>);

impl Undo {
    /// Remembers something that was made, or may have been.
    pub(super) fn push(
        &mut self,
        what: String,
        removal: impl Future<Output = ApiResult<()>> + Send + 'static,
    ) {
        self.0.push((what, Box::pin(removal)));
    }

    /// Takes everything away, the newest first. What stays, if anything.
    pub(super) async fn run(mut self) -> Vec<String> {
        let mut left = Vec::new();
        while let Some((what, removal)) = self.0.pop() {
            match removal.await {
                Ok(()) => tracing::info!(what, "took back what was made for a vault request that failed"),
                Err(e) => {
                    tracing::error!(what, error = %e.message, "this was made for a vault request that failed, and could not be taken away");
                    left.push(what);
                }
            }
        }
        left
    }
}

/// Whether this server can make places by a template of this kind.
pub(super) fn is_made(kind: &str) -> bool {
    [
        REMOTESERVER_COMET,
        REMOTESERVER_S3_GENERIC,
        REMOTESERVER_AWS,
        REMOTESERVER_WASABI,
        REMOTESERVER_IDRIVEE2,
        REMOTESERVER_CUSTOM,
    ]
    .contains(&kind)
}

/// The type that vaults of a template have; not known before for the custom kind.
pub(super) fn destination_type(kind: &str) -> Option<u64> {
    match kind {
        REMOTESERVER_CUSTOM => None,
        REMOTESERVER_COMET | REMOTESERVER_COMET_STORAGE => Some(DESTINATIONTYPE_COMET),
        REMOTESERVER_B2 => Some(DESTINATIONTYPE_B2),
        REMOTESERVER_STORJ => Some(DESTINATIONTYPE_STORJ),
        _ => Some(DESTINATIONTYPE_S3),
    }
}

/// Makes a place that can be reached with the credentials in the answer.
///
/// # Errors
/// 400 for a template that is not complete, 501 for a kind that can not be made, 502 for a service that refuses. What
/// was made until then is in `undo`.
pub(super) async fn make(
    app: &Arc<App>,
    order: &Order<'_>,
    template: &RemoteStorageOption,
    undo: &mut Undo,
) -> ApiResult<DestinationLocation> {
    let template = secrets::opened(app, template)?;
    let location = match template.type_.as_str() {
        REMOTESERVER_COMET if template.remote_address.is_empty() => own_role(app, order, undo).await?,
        REMOTESERVER_COMET => other_role::make(&template, undo).await?,
        REMOTESERVER_S3_GENERIC | REMOTESERVER_AWS | REMOTESERVER_WASABI | REMOTESERVER_IDRIVEE2 => {
            let place = aws::Service::of(&template)?.make(undo).await?;
            prove(&place).await?;
            place
        }
        REMOTESERVER_CUSTOM => custom::make(&template.custom).await?,
        kind => {
            let name = kind_name(kind).unwrap_or(kind);
            return Err(ApiError::unsupported(&format!(
                "vault requests from storage templates of the kind {name}"
            )));
        }
    };
    Ok(location)
}

async fn own_role(app: &Arc<App>, order: &Order<'_>, undo: &mut Undo) -> ApiResult<DestinationLocation> {
    if !app.config().storage_role.role_enabled {
        return Err(ApiError::bad_request(
            "The storage template stands for this server's own Storage Role, which is switched off",
        ));
    }
    let new = storage_role::register(app, order.actor, order.organization, None, Key::Random).await?;
    let (app, actor, id) = (app.clone(), order.actor.to_string(), new.id.clone());
    undo.push(format!("bucket {id}"), async move {
        storage_role::delete(&app, &actor, Scope::All, id).await
    });
    Ok(DestinationLocation {
        destination_type: DESTINATIONTYPE_COMET,
        comet_server: order.address.clone(),
        comet_bucket: new.id.to_string(),
        comet_bucket_key: new.key.unwrap_or_default(),
        ..Default::default()
    })
}

/// Looks whether a place can be reached, and waits a little for a key that was just made.
async fn prove(place: &DestinationLocation) -> ApiResult<()> {
    let mut last = Err(ApiError::internal());
    for pause in PAUSES {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        last = ping(place.clone()).await;
        match &last {
            Err(e) if e.message.contains("refuses the credentials") => {}
            _ => break,
        }
    }
    last
}

/// Makes a place and takes it away again.
///
/// # Errors
/// As [`make`]; 502 if the place can not be reached or something of it stays.
pub(super) async fn test(
    app: &Arc<App>,
    actor: &str,
    organization: &str,
    template: &RemoteStorageOption,
) -> ApiResult<()> {
    let (app, template) = (app.clone(), template.clone());
    let (actor, organization) = (actor.to_string(), organization.to_string());
    let work = async move {
        let order = Order {
            actor: &actor,
            organization: &organization,
            address: format!("{}/", app.local_url),
        };
        let mut undo = Undo::default();
        let made = match make(&app, &order, &template, &mut undo).await {
            Ok(place) => ping(place).await,
            Err(e) => Err(e),
        };
        let left = undo.run().await;
        made?;
        if left.is_empty() {
            return Ok(());
        }
        Err(ApiError::new(
            502,
            format!(
                "The template works, but could not be undone: {} stays",
                left.join(", ")
            ),
        ))
    };
    // To its end, even if the caller goes away.
    tokio::spawn(work).await.map_err(|_| ApiError::internal())?
}

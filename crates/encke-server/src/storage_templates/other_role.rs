//! Buckets on another server's Storage Role, made by that server's own API.

use super::http::{Failure, client, is_url, send};
use super::provision::Undo;
use encke_api::constants::DESTINATIONTYPE_COMET;
use encke_api::types::{DestinationLocation, RemoteStorageOption};
use encke_api::{ApiError, ApiResult};
use serde_json::Value;

/// A server with the credentials of one of its administrators.
#[derive(Clone)]
struct Other {
    address: String,
    username: String,
    password: String,
}

impl Other {
    /// Calls an endpoint of the other server's administration.
    async fn call(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value, Failure> {
        let what = format!("The server {}", self.address);
        let mut form = vec![
            ("Username", self.username.as_str()),
            ("AuthType", "Password"),
            ("Password", self.password.as_str()),
        ];
        form.extend(fields);
        let url = format!("{}/api/v1/admin/{path}", self.address);
        let (_, text) = send(&what, client().post(url).form(&form)).await?;
        let answer: Value = serde_json::from_str(&text).map_err(|_| Failure {
            error: ApiError::new(502, format!("{what} does not answer as a Storage Role does")),
            refused: false,
        })?;
        if answer["Status"] == 200 {
            return Ok(answer);
        }
        let message = answer["Message"].as_str().unwrap_or("no reason given");
        Err(Failure {
            error: ApiError::new(502, format!("{what} refuses: {message}")),
            refused: answer["Status"].is_number(),
        })
    }
}

/// Makes a bucket there. Its id is chosen here, so that it can be taken away even if the answer is lost.
pub(super) async fn make(template: &RemoteStorageOption, undo: &mut Undo) -> ApiResult<DestinationLocation> {
    if !is_url(&template.remote_address) {
        return Err(ApiError::bad_request(
            "RemoteAddress of the storage template is not an http or https address",
        ));
    }
    let other = Other {
        address: template.remote_address.trim_end_matches('/').to_string(),
        username: template.username.clone(),
        password: template.password.clone(),
    };
    let id = uuid::Uuid::new_v4().to_string();
    let made = other
        .call("storage/register-bucket", &[("SetBucketValue", &id)])
        .await;
    if !matches!(&made, Err(e) if e.refused) {
        let (other, id) = (other.clone(), id.clone());
        undo.push(format!("bucket {id} at {}", other.address), async move {
            other.call("storage/delete-bucket", &[("BucketID", &id)]).await?;
            Ok(())
        });
    }
    let made = made?;
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_string();
    if text("NewBucketID") != id || text("NewBucketKey").is_empty() {
        return Err(ApiError::new(
            502,
            format!(
                "The server {} does not answer as a Storage Role does",
                other.address
            ),
        ));
    }
    Ok(DestinationLocation {
        destination_type: DESTINATIONTYPE_COMET,
        comet_server: format!("{}/", other.address),
        comet_bucket: id,
        comet_bucket_key: text("NewBucketKey"),
        ..Default::default()
    })
}

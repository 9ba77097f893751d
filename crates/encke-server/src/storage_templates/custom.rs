//! The custom kind: an HTTP service of the operator's own makes the place and answers where it is.

use super::http::{client, is_url, send};
use encke_api::constants::{
    CUSTOMREMOTEBUCKET_CUSTOMBODY_FORM, CUSTOMREMOTEBUCKET_CUSTOMBODY_JSON,
    CUSTOMREMOTEBUCKET_CUSTOMBODY_NONE, CUSTOMREMOTEBUCKET_CUSTOMBODY_URLENC,
};
use encke_api::types::{CustomRemoteBucketSettings, DestinationLocation};
use encke_api::{ApiError, ApiResult};
use reqwest::RequestBuilder;
use serde_json::Value;

/// The pairs of a body that the template gives as a JSON object or as `name=value&name=value`.
fn pairs(body: &str) -> Vec<(String, String)> {
    match serde_json::from_str::<serde_json::Map<String, Value>>(body) {
        Ok(object) => object
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => (name, text),
                other => (name, other.to_string()),
            })
            .collect(),
        Err(_) => {
            let query = reqwest::Url::parse(&format!("http://body/?{body}"));
            query.map_or_else(|_| Vec::new(), |url| url.query_pairs().into_owned().collect())
        }
    }
}

fn multipart(request: RequestBuilder, pairs: &[(String, String)]) -> RequestBuilder {
    let cut = uuid::Uuid::new_v4().simple().to_string();
    let mut body = String::new();
    for (name, value) in pairs {
        let name = name.replace(['"', '\r', '\n'], "_");
        body += &format!("--{cut}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    body += &format!("--{cut}--\r\n");
    request
        .header("Content-Type", format!("multipart/form-data; boundary={cut}"))
        .body(body)
}

/// Asks the service for a place.
pub(super) async fn make(settings: &CustomRemoteBucketSettings) -> ApiResult<DestinationLocation> {
    if !is_url(&settings.url) {
        return Err(ApiError::bad_request(
            "Custom.URL of the storage template is not an http or https address",
        ));
    }
    let mut request = client().post(&settings.url);
    let body = &settings.custom_body;
    request = match settings.custom_body_type.as_str() {
        "" | CUSTOMREMOTEBUCKET_CUSTOMBODY_NONE => request,
        CUSTOMREMOTEBUCKET_CUSTOMBODY_JSON => {
            if serde_json::from_str::<Value>(body).is_err() {
                return Err(ApiError::bad_request(
                    "Custom.CustomBody of the storage template is not JSON",
                ));
            }
            request
                .header("Content-Type", "application/json")
                .body(body.clone())
        }
        CUSTOMREMOTEBUCKET_CUSTOMBODY_URLENC => request.form(&pairs(body)),
        CUSTOMREMOTEBUCKET_CUSTOMBODY_FORM => multipart(request, &pairs(body)),
        other => {
            return Err(ApiError::bad_request(format!(
                "Custom.CustomBodyType '{other}' is unknown"
            )));
        }
    };
    for (name, value) in &settings.custom_headers {
        request = request.header(name, value);
    }
    let what = "The service of the storage template";
    let (status, text) = send(what, request).await?;
    if !status.is_success() {
        return Err(ApiError::new(
            502,
            format!("{what} answers with status {}", status.as_u16()),
        ));
    }
    // Its text is not passed on: the template's author need not be the one who runs the service.
    let unreadable = || ApiError::new(502, format!("{what} does not answer with a DestinationLocation"));
    let location: DestinationLocation = serde_json::from_str(&text).map_err(|_| unreadable())?;
    if encke_storage::kind_name(location.destination_type).is_none() {
        return Err(unreadable());
    }
    Ok(location)
}

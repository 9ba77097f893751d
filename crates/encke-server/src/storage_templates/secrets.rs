//! The secrets in templates; see [`crate::secrets`].

use crate::app::App;
use crate::secrets::{self, Confidential};
use encke_api::ApiResult;
use encke_api::types::RemoteStorageOption;

impl Confidential for RemoteStorageOption {
    const NAME: &'static str = "storage template";
    const PLACE: &'static str = "storage-template";

    fn each_secret(&mut self, visit: &mut dyn FnMut(&str, &mut String)) {
        visit("Password", &mut self.password);
        secrets::each_cloud_secret!(self, visit);
    }

    fn addresses(&self) -> Vec<&str> {
        vec![
            &self.type_,
            &self.remote_address,
            &self.custom.url,
            &self.s3.s3_endpoint,
            &self.s3.iam_endpoint,
        ]
    }
}

/// Templates as they leave the server.
pub(crate) fn obscured(templates: &[RemoteStorageOption]) -> Vec<RemoteStorageOption> {
    templates.iter().map(secrets::obscured).collect()
}

/// Makes templates that somebody wrote ready to be kept in place of `present`; gives ids to those without.
///
/// # Errors
/// As [`secrets::adopt`].
pub(crate) fn adopt(
    app: &App,
    present: &[RemoteStorageOption],
    wanted: &mut [RemoteStorageOption],
) -> ApiResult<()> {
    for template in wanted {
        if template.id.is_empty() {
            template.id = uuid::Uuid::new_v4().to_string();
        }
        let id = template.id.clone();
        let old = present.iter().find(|p| p.id == id);
        secrets::adopt(&app.server_key, &id, old, template)?;
    }
    Ok(())
}

/// A template with its secrets in clear, to be used at once.
///
/// # Errors
/// As [`secrets::opened`].
pub(super) fn opened(app: &App, template: &RemoteStorageOption) -> ApiResult<RemoteStorageOption> {
    secrets::opened(&app.server_key, &template.id, template)
}

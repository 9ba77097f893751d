//! Templates: the starter set, and those that people make of their own sources.

use super::{not_found, owner_of, rows, sources};
use crate::app::{App, store_error};
use crate::auth::Principal;
use crate::table::{Binary, Call, Envelope, Own, Route, done};
use encke_api::form::NoParams;
use encke_api::{ApiError, ApiResult, params};
use encke_reports::{ENCKE, FIRST_OWN_TEMPLATE, SAMPLE, Template, offered, starter};
use encke_store::{ReportOwner, StoreError, StoredTemplate};
use serde_json::{Value, json};
use std::sync::Arc;

/// Most templates of one owner.
const MAX_TEMPLATES: usize = 500;
/// Rows of the sample that a parameter's values are looked for in.
pub(super) const SAMPLE_LOOK: u64 = 2000;

params! {
    /// Parameters of saving a template.
    struct Save {
        /// The template as YAML or JSON. Without an id, or with id 0, a new one is made.
        Template: String,
        /// Who else of the organization may use it, and so read its source: `none`, `admins` or `everyone`.
        Audience: Option<String>
    }
}

params! {
    /// A template.
    struct One {
        /// The template's number.
        Template: i64
    }
}

params! {
    /// A parameter of a template.
    struct Parameter {
        /// The template's number.
        Template: i64,
        /// Key of the parameter.
        Parameter: String
    }
}

/// A template that somebody may use.
pub(super) struct Found {
    pub template: Template,
    pub version: i64,
}

fn parse(stored: &StoredTemplate) -> ApiResult<Template> {
    serde_json::from_str(&stored.body).map_err(|e| {
        tracing::error!(template = stored.id, error = %e, "a stored template can not be read");
        ApiError::internal()
    })
}

/// Finds a template among those that somebody may use.
pub(super) async fn find(app: &App, user: &ReportOwner, id: i64) -> ApiResult<Found> {
    if let Some(template) = starter().iter().find(|t| t.id == id) {
        return Ok(Found {
            template: template.clone(),
            version: 0,
        });
    }
    let stored = app
        .store
        .report_template(id, user)
        .await
        .map_err(not_found("Template"))?;
    Ok(Found {
        template: parse(&stored)?,
        version: stored.version,
    })
}

async fn list(app: Arc<App>, principal: Principal, _: Call<NoParams>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let shown = |template: &Template, audience: &str, by: &str| -> ApiResult<Value> {
        let mut shown = serde_json::to_value(template).map_err(|_| ApiError::internal())?;
        shown["audience"] = json!(audience);
        shown["owner"] = json!(by);
        Ok(shown)
    };
    let mut all = Vec::new();
    for template in starter() {
        all.push(shown(template, "everyone", "")?);
    }
    for stored in app.store.report_templates(&owner).await.map_err(store_error)? {
        all.push(shown(&parse(&stored)?, &stored.audience, &stored.owner.name)?);
    }
    Ok(Own(all.into()))
}

async fn save(app: Arc<App>, principal: Principal, call: Call<Save>) -> ApiResult<Own<Value>> {
    let owner = owner_of(&principal)?;
    let audience = call.params.Audience.unwrap_or_else(|| "none".into());
    if !["none", "admins", "everyone"].contains(&audience.as_str()) {
        return Err(ApiError::bad_request("Audience is none, admins or everyone"));
    }
    let mut template = Template::parse(&call.params.Template).map_err(|e| ApiError::bad_request(e.0))?;
    if (1..FIRST_OWN_TEMPLATE).contains(&template.id) || template.id < 0 {
        // Importing one of the starter set makes a copy.
        template.id = 0;
    }
    if ![ENCKE, SAMPLE].contains(&template.source.as_str()) {
        sources::own(&app, &owner, &template.source).await?;
    }
    let known = app.store.report_templates(&owner).await.map_err(store_error)?;
    if template.id == 0 && known.iter().filter(|t| t.owner == owner).count() >= MAX_TEMPLATES {
        return Err(ApiError::bad_request(format!(
            "You may keep at most {MAX_TEMPLATES} templates"
        )));
    }
    // The source must have what the template names.
    let opened = rows::open_template(&app, &owner, template.clone(), 0).await?;
    opened
        .with(&app, (1, 1), |template, database| {
            let tables = database.tables()?;
            encke_reports::query::find_table(template, &tables)?;
            Ok(())
        })
        .await?;
    let id = template.id;
    let body = move |id: i64| {
        template.id = id;
        Ok::<_, StoreError>(serde_json::to_string(&template)?)
    };
    let id = if id == 0 {
        let added = app
            .store
            .add_report_template(&owner, &audience, FIRST_OWN_TEMPLATE, body);
        added.await.map_err(store_error)?
    } else {
        let mut body = body;
        let text = body(id).map_err(store_error)?;
        let changed = app.store.change_report_template(id, &owner, &audience, &text);
        changed.await.map_err(not_found("Template"))?;
        id
    };
    Ok(Own(json!({ "Status": 200, "Message": "OK", "Template": id })))
}

async fn delete(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Envelope> {
    let owner = owner_of(&principal)?;
    let deleted = app.store.delete_report_template(call.params.Template, &owner);
    deleted.await.map_err(not_found("Template"))?;
    Ok(done())
}

async fn export(app: Arc<App>, principal: Principal, call: Call<One>) -> ApiResult<Binary> {
    let found = find(&app, &owner_of(&principal)?, call.params.Template).await?;
    Ok(Binary {
        body: found
            .template
            .to_yaml()
            .map_err(|e| ApiError::bad_request(e.0))?
            .into(),
        media: "application/yaml; charset=utf-8",
    })
}

async fn values(app: Arc<App>, principal: Principal, call: Call<Parameter>) -> ApiResult<Own<Value>> {
    let opened = rows::open(&app, &owner_of(&principal)?, call.params.Template).await?;
    let key = call.params.Parameter;
    let found = opened.with(&app, (SAMPLE_LOOK, 1), move |template, database| {
        offered(template, &key, database)
    });
    Ok(Own(
        serde_json::to_value(found.await?).map_err(|_| ApiError::internal())?
    ))
}

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::new(
            "EnckeReportTemplates",
            "/api/encke/v1/reports/list-templates",
            "Lists what reports can be made of.",
            list,
        ),
        Route::new(
            "EnckeReportTemplateSave",
            "/api/encke/v1/reports/save-template",
            "Saves a template of Encke's own data or of one of the caller's sources, new or changed.",
            save,
        ),
        Route::new(
            "EnckeReportTemplateDelete",
            "/api/encke/v1/reports/delete-template",
            "Deletes a template; reports made of it can not be run any more.",
            delete,
        ),
        Route::new(
            "EnckeReportTemplateExport",
            "/api/encke/v1/reports/export-template",
            "Answers a template as YAML, to be saved elsewhere.",
            export,
        ),
        Route::new(
            "EnckeReportParameterValues",
            "/api/encke/v1/reports/parameter-values",
            "Answers what can be chosen for a parameter: values, or id, id of the place above and name.",
            values,
        ),
    ]
}

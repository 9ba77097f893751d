//! E-mail reports about jobs (reference, section 19): which there are, who gets which, and what they say.
//!
//! An address gets the reports of its own (`OverrideEmailSettings`), else those of the account's policy, else one about
//! each backup that ends. Administrators have theirs in the e-mail settings. `gather.rs` reads the jobs, `render.rs`
//! writes HTML and text, `worker.rs` knows when.

mod endpoints;
mod gather;
mod render;
mod worker;

pub(super) use endpoints::routes;
pub(super) use worker::{follow_jobs, follow_schedules};

use super::is_address;
use crate::app::{App, store_error};
use encke_api::constants::{
    EMAILREPORTTYPE_IMMEDIATE, EMAILREPORTTYPE_RECENT_ACTIVITY, JOB_CLASSIFICATION_BACKUP,
};
use encke_api::messages::Language;
use encke_api::schedule::{next_run, zone};
use encke_api::types::{
    EmailOptions, EmailReportConfig, EmailReportingOption, SearchClause, UserProfileConfig,
};
use encke_api::{ApiError, ApiResult};
use encke_store::{CompiledSearch, Scope, compile_search};
use jiff::tz::TimeZone;

/// Most reports of one address or organization.
const MAX_REPORTS: usize = 50;
/// Most recipients of an administrators' report.
const MAX_RECIPIENTS: usize = 100;
/// Most schedules of one report.
const MAX_SCHEDULES: usize = 20;

/// One report with those who get it.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    /// The account it is about; nothing for all jobs of the organization.
    pub account: Option<String>,
    /// Whose mail server sends it.
    pub organization: String,
    pub config: EmailReportConfig,
    pub recipients: Vec<String>,
    pub language: Language,
    pub zone: TimeZone,
}

impl Subscription {
    /// The jobs it may tell of.
    fn scope(&self) -> Scope {
        match &self.account {
            Some(name) => Scope::User(name.clone()),
            None if self.organization.is_empty() => Scope::All,
            None => Scope::Organization(self.organization.clone()),
        }
    }

    fn is_immediate(&self) -> bool {
        self.config.report_type == EMAILREPORTTYPE_IMMEDIATE
    }
}

/// What an address gets for which nothing else is said: a message for each backup that ends.
fn default_reports() -> Vec<EmailReportConfig> {
    vec![EmailReportConfig {
        report_type: EMAILREPORTTYPE_IMMEDIATE,
        filter: SearchClause {
            rule_field: "BackupJobDetail.Classification".into(),
            rule_operator: "int_eq".into(),
            rule_value: JOB_CLASSIFICATION_BACKUP.to_string(),
            ..Default::default()
        },
        ..Default::default()
    }]
}

/// The reports of an account's addresses.
pub(super) fn of_account(profile: &UserProfileConfig) -> Vec<Subscription> {
    if !profile.send_email_reports || profile.is_suspended {
        return Vec::new();
    }
    let policy = &profile.policy.default_email_reports;
    let mut all = Vec::new();
    for address in &profile.emails {
        let own = profile.override_email_settings.get(address);
        let reports = match own {
            Some(own) => own.reports.clone(),
            None if policy.should_override_default_reports => policy.reports.clone(),
            None => default_reports(),
        };
        let address = address.trim();
        if !is_address(address) {
            continue;
        }
        for config in reports.into_iter().take(MAX_REPORTS) {
            all.push(Subscription {
                account: Some(profile.username.clone()),
                organization: profile.organization_id.clone(),
                config,
                recipients: vec![address.to_string()],
                language: Language::accepted(&profile.language_code),
                zone: zone([profile.local_timezone.as_str()]),
            });
        }
    }
    all
}

/// An administrators' report of an organization.
pub(super) fn of_option(organization: &str, option: &EmailReportingOption) -> Subscription {
    Subscription {
        account: None,
        organization: organization.to_string(),
        config: option.email_report_config.clone(),
        recipients: option
            .recipients
            .iter()
            .map(|r| r.trim().to_string())
            .filter(|r| is_address(r))
            .take(MAX_RECIPIENTS)
            .collect(),
        language: Language::accepted(&option.language_code),
        zone: zone([option.local_timezone.as_str()]),
    }
}

/// The administrators' reports of an organization.
fn of_organization(organization: &str, options: &EmailOptions) -> Vec<Subscription> {
    let all = options.email_reporting_options.iter().take(MAX_REPORTS);
    all.map(|option| of_option(organization, option))
        .filter(|s| !s.recipients.is_empty())
        .collect()
}

/// The administrators' reports of the whole server, those of suspended organizations left out.
fn of_administrators(app: &App) -> Vec<Subscription> {
    let config = app.config();
    let mut all = of_organization("", &config.email);
    for (id, organization) in config.organizations.iter().filter(|(_, o)| !o.is_suspended) {
        all.extend(of_organization(id, &organization.email));
    }
    all
}

/// The search of a report. A clause that says nothing finds everything.
///
/// # Errors
/// 400 naming what is wrong in the filter.
fn search(config: &EmailReportConfig) -> ApiResult<CompiledSearch> {
    let nothing = config.filter.clause_type.is_empty() && config.filter.rule_field.is_empty();
    let clause = if nothing {
        SearchClause {
            clause_type: "and".into(),
            ..Default::default()
        }
    } else {
        config.filter.clone()
    };
    compile_search(&clause).map_err(store_error)
}

/// Whether a report can be made.
///
/// # Errors
/// 400 naming what is wrong.
pub(super) fn check_report(config: &EmailReportConfig) -> ApiResult<()> {
    if !(EMAILREPORTTYPE_IMMEDIATE..=EMAILREPORTTYPE_RECENT_ACTIVITY).contains(&config.report_type) {
        return Err(ApiError::bad_request(format!(
            "ReportType {} is unknown",
            config.report_type
        )));
    }
    if config.summary_frequency.len() > MAX_SCHEDULES {
        return Err(ApiError::bad_request(format!(
            "A report has at most {MAX_SCHEDULES} schedules"
        )));
    }
    for schedule in &config.summary_frequency {
        next_run(schedule, &TimeZone::UTC, 0)
            .map_err(|e| ApiError::bad_request(format!("SummaryFrequency: {e}")))?;
    }
    search(config).map(drop)
}

/// Whether an administrators' report can be made and sent.
///
/// # Errors
/// 400 naming what is wrong.
pub(super) fn check_option(option: &EmailReportingOption) -> ApiResult<()> {
    check_report(&option.email_report_config)?;
    if option.recipients.len() > MAX_RECIPIENTS {
        return Err(ApiError::bad_request(format!(
            "A report has at most {MAX_RECIPIENTS} recipients"
        )));
    }
    if let Some(wrong) = option.recipients.iter().find(|r| !is_address(r.trim())) {
        return Err(ApiError::bad_request(format!(
            "'{wrong}' is not an e-mail address"
        )));
    }
    let zone = &option.local_timezone;
    if !zone.is_empty() && TimeZone::get(zone).is_err() {
        return Err(ApiError::bad_request(format!(
            "The time zone '{zone}' is unknown"
        )));
    }
    Ok(())
}

/// Whether the administrators' reports of these settings can be made and sent.
///
/// # Errors
/// 400 naming what is wrong.
pub(crate) fn check_options(options: &EmailOptions) -> ApiResult<()> {
    if options.email_reporting_options.len() > MAX_REPORTS {
        return Err(ApiError::bad_request(format!(
            "An organization has at most {MAX_REPORTS} e-mail reports"
        )));
    }
    options.email_reporting_options.iter().try_for_each(check_option)
}

//! Places on services that speak Amazon's S3 and IAM: a bucket or a folder in one, and a user whose key opens only it.

use super::http::{Failure, client, send};
use super::provision::Undo;
use encke_api::constants::{
    DESTINATIONTYPE_S3, OBJECT_LOCK_LEGACY, OBJECT_LOCK_OFF, OBJECT_LOCK_ON, REMOTESERVER_AWS,
    REMOTESERVER_WASABI,
};
use encke_api::types::{AmazonAWSVirtualStorageRoleSettings, DestinationLocation, RemoteStorageOption};
use encke_api::{ApiError, ApiResult};
use reqsign_aws_v4::{RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Signer};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Region of services that have none, and of Amazon's IAM.
const DEFAULT_REGION: &str = "us-east-1";
/// Domains of the services whose addresses are fixed.
const AMAZON: &str = "amazonaws.com";
const WASABI: &str = "wasabisys.com";
/// Version of the IAM interface.
const IAM_VERSION: &str = "2010-05-08";
/// Name of the one policy of a vault's user.
const POLICY: &str = "storage-vault";

/// A service with the key that may make places on it.
#[derive(Clone)]
pub(super) struct Service {
    /// Name for messages.
    name: String,
    s3: String,
    /// Without one there is one key for all.
    iam: Option<String>,
    region: String,
    bucket: String,
    prefix: String,
    access_key: String,
    secret_key: String,
    remove_deleted: bool,
    /// Days for which a vault's objects are locked; 0 for no locks.
    lock_days: i64,
}

fn url(endpoint: &str) -> String {
    let endpoint = endpoint.trim().trim_end_matches('/');
    if endpoint.contains("://") {
        endpoint.to_string()
    } else {
        format!("https://{endpoint}")
    }
}

/// Percent-encodes a part of a path or query as signatures want it.
fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

impl Service {
    /// The service that a template names.
    ///
    /// # Errors
    /// 400 for settings that are not complete.
    pub(super) fn of(template: &RemoteStorageOption) -> ApiResult<Self> {
        let with = |name: &str, domain: &str, own: &AmazonAWSVirtualStorageRoleSettings| Self {
            name: name.to_string(),
            s3: url(&format!("s3.{domain}")),
            iam: Some(url(&format!("iam.{domain}"))),
            region: String::new(),
            bucket: own.master_bucket.clone(),
            prefix: String::new(),
            access_key: own.access_key.clone(),
            secret_key: own.secret_key.clone(),
            remove_deleted: own.remove_deleted,
            lock_days: 0,
        };
        let lock = |mode: u8, days: i64, legacy: bool| {
            let wanted = mode == OBJECT_LOCK_ON || (mode == OBJECT_LOCK_LEGACY && (legacy || days > 0));
            wanted.then_some(days)
        };
        let (mut service, locks) = match template.type_.as_str() {
            REMOTESERVER_AWS => {
                let own = &template.aws;
                (
                    with("Amazon AWS", AMAZON, own),
                    lock(own.object_lock_mode, own.object_lock_days, own.use_object_lock),
                )
            }
            REMOTESERVER_WASABI => {
                let wasabi = &template.wasabi;
                let own = AmazonAWSVirtualStorageRoleSettings {
                    master_bucket: wasabi.master_bucket.clone(),
                    access_key: wasabi.access_key.clone(),
                    secret_key: wasabi.secret_key.clone(),
                    remove_deleted: wasabi.remove_deleted,
                    ..Default::default()
                };
                let locks = lock(
                    wasabi.object_lock_mode,
                    wasabi.object_lock_days,
                    wasabi.use_object_lock,
                );
                (with("Wasabi", WASABI, &own), locks)
            }
            _ => {
                let own = &template.s3;
                if own.s3_endpoint.trim().is_empty() {
                    return Err(ApiError::bad_request(
                        "S3.S3Endpoint of the storage template is missing",
                    ));
                }
                let service = Self {
                    name: format!("The service {}", url(&own.s3_endpoint)),
                    s3: url(&own.s3_endpoint),
                    iam: Some(own.iam_endpoint.as_str())
                        .filter(|e| !e.trim().is_empty())
                        .map(url),
                    region: own.region.clone(),
                    bucket: own.master_bucket.clone(),
                    prefix: own.prefix.trim_matches('/').to_string(),
                    access_key: own.access_key.clone(),
                    secret_key: own.secret_key.clone(),
                    remove_deleted: own.remove_deleted,
                    lock_days: 0,
                };
                let locks = lock(own.object_lock_mode, own.object_lock_days, own.use_object_lock);
                (service, locks)
            }
        };
        if let Some(days) = locks {
            if days < 1 {
                return Err(ApiError::bad_request(
                    "ObjectLockDays of the storage template must be at least 1",
                ));
            }
            service.lock_days = days;
            service.remove_deleted = true;
        }
        if service.access_key.is_empty() || service.secret_key.is_empty() {
            return Err(ApiError::bad_request(
                "AccessKey or SecretKey of the storage template is missing",
            ));
        }
        Ok(service)
    }

    fn signing_region(&self) -> &str {
        if self.region.is_empty() {
            DEFAULT_REGION
        } else {
            &self.region
        }
    }

    /// Sends a signed request; the answer's text if the service did what was asked.
    async fn signed(
        &self,
        service: &str,
        method: Method,
        url: String,
        header: Option<(&str, &str)>,
        body: String,
    ) -> Result<String, Failure> {
        let broken = |_| Failure {
            error: ApiError::internal(),
            refused: true,
        };
        let mut builder = axum::http::Request::builder()
            .method(method.clone())
            .uri(&url)
            .header("x-amz-content-sha256", hex::encode(Sha256::digest(&body)));
        if let Some((name, value)) = header {
            builder = builder.header(name, value);
        }
        let invalid = |_| Failure {
            error: ApiError::bad_request(format!("'{url}' is not an address")),
            refused: true,
        };
        let (mut parts, ()) = builder.body(()).map_err(invalid)?.into_parts();
        let credentials = StaticCredentialProvider::new(&self.access_key, &self.secret_key);
        let region = if service == "iam" && self.region.is_empty() {
            DEFAULT_REGION
        } else {
            self.signing_region()
        };
        let signer = Signer::new(Context::new(), credentials, RequestSigner::new(service, region));
        signer
            .sign(&mut parts, None)
            .await
            .map_err(|e| tracing::error!(error = %e, "a request could not be signed"))
            .map_err(broken)?;
        let request = client()
            .request(method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body);
        let (status, text) = send(&self.name, request).await?;
        if status.is_success() {
            return Ok(text);
        }
        Err(self.refusal(status, &text))
    }

    fn refusal(&self, status: StatusCode, text: &str) -> Failure {
        let (code, message) = (element(text, "Code"), element(text, "Message"));
        let why = if code.is_empty() {
            format!("status {}", status.as_u16())
        } else {
            format!("{code}: {message}")
        };
        Failure {
            error: ApiError::new(502, format!("{} refuses: {why}", self.name)),
            refused: status.is_client_error(),
        }
    }

    async fn iam(&self, endpoint: &str, action: &str, fields: &[(&str, &str)]) -> Result<String, Failure> {
        let own = [("Action", action), ("Version", IAM_VERSION)];
        let body: Vec<String> = own
            .iter()
            .chain(fields)
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        self.signed(
            "iam",
            Method::POST,
            format!("{endpoint}/"),
            Some(("content-type", "application/x-www-form-urlencoded")),
            body.join("&"),
        )
        .await
    }

    /// Takes a user away with all it has, whatever of it is there.
    async fn remove_user(&self, endpoint: &str, user: &str) -> ApiResult<()> {
        let gone = |result: Result<String, Failure>| match result {
            Err(e) if e.error.message.contains("NoSuchEntity") => Ok(String::new()),
            other => other,
        };
        let named = ("UserName", user);
        let keys = gone(self.iam(endpoint, "ListAccessKeys", &[named]).await)?;
        for key in AccessKeys::read(&keys) {
            let fields = [named, ("AccessKeyId", key.as_str())];
            gone(self.iam(endpoint, "DeleteAccessKey", &fields).await)?;
        }
        let fields = [named, ("PolicyName", POLICY)];
        gone(self.iam(endpoint, "DeleteUserPolicy", &fields).await)?;
        gone(self.iam(endpoint, "DeleteUser", &[named]).await)?;
        Ok(())
    }

    /// Makes a user who may do with the place what a Storage Vault needs, and no more. Its key.
    async fn make_user(
        &self,
        endpoint: &str,
        place: &DestinationLocation,
        name: &str,
        undo: &mut Undo,
    ) -> ApiResult<(String, String)> {
        let user = format!("encke-{name}");
        let named = ("UserName", user.as_str());
        let made = self.iam(endpoint, "CreateUser", &[named]).await;
        if !matches!(&made, Err(e) if e.refused) {
            let (service, endpoint, user) = (self.clone(), endpoint.to_string(), user.clone());
            undo.push(format!("user {user} at {}", self.name), async move {
                service.remove_user(&endpoint, &user).await
            });
        }
        made?;
        let policy = policy(place);
        let fields = [named, ("PolicyName", POLICY), ("PolicyDocument", &policy)];
        self.iam(endpoint, "PutUserPolicy", &fields).await?;
        let made = self.iam(endpoint, "CreateAccessKey", &[named]).await?;
        quick_xml::de::from_str::<NewKey>(&made)
            .map(|k| k.result.key)
            .ok()
            .filter(|k| !k.id.is_empty() && !k.secret.is_empty())
            .map(|k| (k.id, k.secret))
            .ok_or_else(|| ApiError::new(502, format!("{} does not answer with a key", self.name)))
    }

    /// The region of the bucket, where the service tells it to whoever asks.
    async fn find_region(&mut self) {
        if !self.region.is_empty() || self.bucket.is_empty() {
            return;
        }
        let url = format!("{}/{}", self.s3, escape(&self.bucket));
        let answer = client().head(url).send().await;
        let told = answer.ok().and_then(|a| {
            let header = a.headers().get("x-amz-bucket-region")?;
            Some(header.to_str().ok()?.to_string())
        });
        self.region = told.unwrap_or_default();
        if !self.region.is_empty() && self.region != DEFAULT_REGION {
            // Both services that have fixed addresses serve each region at its own.
            for domain in [AMAZON, WASABI] {
                if self.s3 == format!("https://s3.{domain}") {
                    self.s3 = format!("https://s3.{}.{domain}", self.region);
                }
            }
        }
    }

    async fn make_bucket(&self, bucket: &str, undo: &mut Undo) -> ApiResult<()> {
        let url = format!("{}/{bucket}", self.s3);
        let body = match self.signing_region() {
            DEFAULT_REGION => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <LocationConstraint>{}</LocationConstraint></CreateBucketConfiguration>",
                quick_xml::escape::escape(region)
            ),
        };
        let locks = (self.lock_days > 0).then_some(("x-amz-bucket-object-lock-enabled", "true"));
        let made = self.signed("s3", Method::PUT, url.clone(), locks, body).await;
        if !matches!(&made, Err(e) if e.refused) {
            let service = self.clone();
            undo.push(format!("bucket {bucket} at {}", self.name), async move {
                service
                    .signed("s3", Method::DELETE, url, None, String::new())
                    .await?;
                Ok(())
            });
        }
        made?;
        Ok(())
    }

    /// Makes a place: a folder in the template's bucket, or a bucket of its own where it names none; with a key of
    /// its own where the service has IAM, else with the template's.
    pub(super) async fn make(mut self, undo: &mut Undo) -> ApiResult<DestinationLocation> {
        let name = uuid::Uuid::new_v4().to_string();
        self.find_region().await;
        let subdir = if self.prefix.is_empty() {
            name.clone()
        } else {
            format!("{}/{name}", self.prefix)
        };
        let (scheme, host) = self.s3.split_once("://").unwrap_or(("https", &self.s3));
        let mut place = DestinationLocation {
            destination_type: DESTINATIONTYPE_S3,
            s3_server: host.to_string(),
            s3_uses_tls: scheme == "https",
            s3_access_key: self.access_key.clone(),
            s3_secret_key: self.secret_key.clone(),
            s3_bucket_name: self.bucket.clone(),
            s3_subdir: subdir,
            s3_custom_region: self.region.clone(),
            s3_remove_deleted: self.remove_deleted,
            s3_object_lock_mode: if self.lock_days > 0 {
                OBJECT_LOCK_ON
            } else {
                OBJECT_LOCK_OFF
            },
            s3_object_lock_days: self.lock_days,
            ..Default::default()
        };
        if self.bucket.is_empty() {
            place.s3_bucket_name = format!("encke-{name}");
            place.s3_subdir.clone_from(&self.prefix);
            self.make_bucket(&place.s3_bucket_name, undo).await?;
        }
        if let Some(iam) = &self.iam {
            let (id, secret) = self.make_user(iam, &place, &name, undo).await?;
            place.s3_access_key = id;
            place.s3_secret_key = secret;
        }
        Ok(place)
    }
}

/// What a vault's key may do: everything below its folder, nothing beside it.
fn policy(place: &DestinationLocation) -> String {
    let (bucket, folder) = (format!("arn:aws:s3:::{}", place.s3_bucket_name), &place.s3_subdir);
    let locks = place.s3_object_lock_mode == OBJECT_LOCK_ON;
    let mut listing = vec!["s3:ListBucket"];
    if place.s3_remove_deleted {
        listing.push("s3:ListBucketVersions");
    }
    let mut list = json!({ "Effect": "Allow", "Action": listing, "Resource": [bucket] });
    let below = if folder.is_empty() {
        format!("{bucket}/*")
    } else {
        list["Condition"] = json!({ "StringLike": { "s3:prefix": [format!("{folder}/*")] } });
        format!("{bucket}/{folder}/*")
    };
    let mut objects = vec![
        "s3:GetObject",
        "s3:PutObject",
        "s3:DeleteObject",
        "s3:AbortMultipartUpload",
        "s3:ListMultipartUploadParts",
    ];
    let mut about_bucket = vec!["s3:GetBucketLocation"];
    if place.s3_remove_deleted {
        objects.push("s3:DeleteObjectVersion");
    }
    if locks {
        objects.push("s3:PutObjectRetention");
        about_bucket.push("s3:GetBucketObjectLockConfiguration");
    }
    json!({
        "Version": "2012-10-17",
        "Statement": [
            list,
            { "Effect": "Allow", "Action": about_bucket, "Resource": [bucket] },
            { "Effect": "Allow", "Action": objects, "Resource": [below] },
        ],
    })
    .to_string()
}

/// The text of the first element of this name: services wrap the reason of a refusal in different ways.
fn element(text: &str, name: &str) -> String {
    let found = text
        .split_once(&format!("<{name}>"))
        .and_then(|(_, rest)| rest.split_once("</"));
    let found = found.map_or("", |(inner, _)| inner);
    quick_xml::escape::unescape(found).map_or_else(|_| found.to_string(), std::borrow::Cow::into_owned)
}

#[derive(Deserialize)]
struct NewKey {
    #[serde(rename = "CreateAccessKeyResult")]
    result: NewKeyResult,
}

#[derive(Deserialize)]
struct NewKeyResult {
    #[serde(rename = "AccessKey")]
    key: AccessKey,
}

#[derive(Deserialize)]
struct AccessKey {
    #[serde(rename = "AccessKeyId", default)]
    id: String,
    #[serde(rename = "SecretAccessKey", default)]
    secret: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccessKeys {
    #[serde(rename = "ListAccessKeysResult")]
    result: AccessKeysResult,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccessKeysResult {
    #[serde(rename = "AccessKeyMetadata")]
    list: Members,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Members {
    member: Vec<AccessKey>,
}

impl AccessKeys {
    /// The ids in an answer to `ListAccessKeys`.
    fn read(text: &str) -> Vec<String> {
        let read: Self = quick_xml::de::from_str(text).unwrap_or_default();
        read.result.list.member.into_iter().map(|k| k.id).collect()
    }
}

//! From the settings of a Storage Vault to the storage they name (reference, section 14).

#![cfg(feature = "network")]

use crate::{
    Azure, B2, B2Place, Backend, Cloud, Ftp, FtpPlace, FtpTls, KnownHosts, Local, Login, Rest, S3, Sftp,
    SftpPlace, Smb, SmbPlace, Spanned, StorageError, StorageResult, Swift, SwiftPlace,
};
use encke_api::constants::{
    DESTINATION_SFTP_AUTHMODE_NATIVE, DESTINATION_SFTP_AUTHMODE_PASSWORD,
    DESTINATION_SFTP_AUTHMODE_PRIVATEKEY, DESTINATIONTYPE_AZUREBLOB, DESTINATIONTYPE_B2,
    DESTINATIONTYPE_COMET, DESTINATIONTYPE_FTP, DESTINATIONTYPE_LOCALCOPY, DESTINATIONTYPE_S3,
    DESTINATIONTYPE_SFTP, DESTINATIONTYPE_SMB, DESTINATIONTYPE_SPANNED, DESTINATIONTYPE_STORJ,
    DESTINATIONTYPE_SWIFT, DESTINATIONTYPE_WEBDAV, FTPS_MODE_EXPLICIT, FTPS_MODE_IMPLICIT,
    FTPS_MODE_PLAINTEXT, OBJECT_LOCK_LEGACY, OBJECT_LOCK_ON,
};
use encke_api::types::DestinationLocation;
use std::sync::Arc;

/// The longest that objects are locked: a hundred years, as S3 has it.
const MAX_LOCK_DAYS: i64 = 36_500;

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
        DESTINATIONTYPE_SFTP => Ok(Arc::new(Sftp::new(sftp_place(location)?)?)),
        DESTINATIONTYPE_FTP => Ok(Arc::new(Ftp::new(ftp_place(location)?)?)),
        DESTINATIONTYPE_AZUREBLOB => Ok(Arc::new(Cloud::azure(&Azure {
            account: location.azb_account_name.clone(),
            key: location.azb_account_key.clone(),
            container: location.azb_container.clone(),
            realm: location.azb_realm.clone(),
            prefix: location.azb_prefix.clone(),
        })?)),
        DESTINATIONTYPE_SWIFT => Ok(Arc::new(Swift::new(swift_place(location))?)),
        DESTINATIONTYPE_B2 => Ok(Arc::new(B2::new(b2_place(location))?)),
        DESTINATIONTYPE_SMB => Ok(Arc::new(Smb::new(SmbPlace {
            server: location.smb.smb_server.clone(),
            share: location.smb.smb_share.clone(),
            folder: location.smb.smb_directory.clone(),
            user: location.smb.smb_username.clone(),
            password: location.smb.smb_password.clone(),
        })?)),
        DESTINATIONTYPE_STORJ => Err(StorageError::Unsupported(
            "Storj by its own interface; make S3 credentials for the bucket at Storj's gateway and enter it as \
             S3-compatible storage with the server gateway.storjshare.io"
                .into(),
        )),
        DESTINATIONTYPE_SPANNED => {
            let open = |target: &DestinationLocation| match target.destination_type {
                DESTINATIONTYPE_SPANNED => Err(StorageError::Invalid(
                    "a spanned vault can not be part of another one".into(),
                )),
                // The key of a bucket that is part of a vault is in clear.
                _ => open_place(target, &target.comet_bucket_key),
            };
            let targets = location
                .span_targets
                .iter()
                .map(open)
                .collect::<StorageResult<_>>()?;
            Ok(Arc::new(Spanned::new(targets, location.span_use_static_slots)?))
        }
        other => match kind_name(other) {
            Some(name) => Err(StorageError::Unsupported(format!("storage of the kind {name}"))),
            None => Err(StorageError::Invalid(format!(
                "{other} is not a type of storage that a Storage Vault can have"
            ))),
        },
    }
}

fn sftp_place(location: &DestinationLocation) -> StorageResult<SftpPlace> {
    let login = match location.sftp_auth_mode {
        DESTINATION_SFTP_AUTHMODE_NATIVE => Login::Native,
        DESTINATION_SFTP_AUTHMODE_PASSWORD => Login::Password(location.sftp_password.clone()),
        DESTINATION_SFTP_AUTHMODE_PRIVATEKEY => Login::Key(location.sftp_private_key.clone()),
        other => {
            return Err(StorageError::Invalid(format!(
                "{other} is not a way to log in to an SFTP server"
            )));
        }
    };
    let known_hosts = match &login {
        Login::Native => KnownHosts::Native,
        _ if !location.sftp_custom_auth_use_known_hosts_file => KnownHosts::Any,
        _ if location.sftp_custom_auth_known_hosts_file.is_empty() => KnownHosts::Native,
        _ => KnownHosts::File((&location.sftp_custom_auth_known_hosts_file).into()),
    };
    Ok(SftpPlace {
        server: location.sftp_server.clone(),
        user: location.sftp_username.clone(),
        folder: location.sftp_remote_path.clone(),
        login,
        known_hosts,
    })
}

/// The place of a Swift location.
#[must_use]
pub fn swift_place(location: &DestinationLocation) -> SwiftPlace {
    let swift = &location.swift;
    SwiftPlace {
        auth_url: swift.auth_url.clone(),
        user: swift.username.clone(),
        key: swift.api_key.clone(),
        region: swift.region.clone(),
        domain: swift.domain.clone(),
        tenant: swift.tenant.clone(),
        tenant_id: swift.tenant_id.clone(),
        tenant_domain: swift.tenant_domain.clone(),
        trust_id: swift.trust_id.clone(),
        container: swift.container.clone(),
        prefix: swift.prefix.clone(),
        policy: swift.default_container_policy.clone(),
    }
}

/// The place of a B2 location.
#[must_use]
pub fn b2_place(location: &DestinationLocation) -> B2Place {
    let b2 = &location.b2;
    B2Place {
        key_id: b2.account_id.clone(),
        key: b2.key.clone(),
        bucket: b2.bucket.clone(),
        prefix: b2.prefix.clone(),
        hide: b2.hide_deleted_files,
    }
}

fn ftp_place(location: &DestinationLocation) -> StorageResult<FtpPlace> {
    let tls = match location.ftps_mode {
        FTPS_MODE_PLAINTEXT => FtpTls::None,
        FTPS_MODE_IMPLICIT => FtpTls::Implicit,
        FTPS_MODE_EXPLICIT => FtpTls::Explicit,
        other => {
            return Err(StorageError::Invalid(format!(
                "{other} is not a way to protect FTP"
            )));
        }
    };
    let number = |n: i64, what: &str| {
        u16::try_from(n).map_err(|_| StorageError::Invalid(format!("{n} is not a {what}")))
    };
    Ok(FtpPlace {
        host: location.ftp_server.clone(),
        port: number(location.ftp_port, "port")?,
        user: location.ftp_username.clone(),
        password: location.ftp_password.clone(),
        folder: if location.ftp_base_use_home_directory {
            String::new()
        } else {
            location.ftp_custom_base_directory.clone()
        },
        tls,
        any_certificate: location.ftp_accept_invalid_ssl,
        connections: number(location.ftp_max_connections, "number of connections")?.into(),
    })
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
    let lock_days = match (locks, location.s3_object_lock_days) {
        (false, _) => 0,
        (true, days @ 1..=MAX_LOCK_DAYS) => days.unsigned_abs() as u32,
        (true, days) => {
            return Err(StorageError::Invalid(format!(
                "{days} days of object lock: it is between 1 and {MAX_LOCK_DAYS}"
            )));
        }
    };
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
        lock_days,
        // What is locked is kept in versions, which would stay for ever.
        remove_deleted: location.s3_remove_deleted || lock_days > 0,
    })
}

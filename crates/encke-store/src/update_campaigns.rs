//! The update campaign: one at a time, with how far each device has come.

use crate::Store;
use crate::error::StoreResult;
use crate::sql::P;
use encke_api::types::UpdateCampaignProperties;
use std::collections::HashMap;

/// A stored campaign.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCampaign {
    /// Its settings.
    pub properties: UpdateCampaignProperties,
    /// SHA-256 of the program that devices get, hexadecimal.
    pub program: String,
}

impl Store {
    /// The newest campaign.
    ///
    /// # Errors
    /// The database fails or the document is damaged.
    pub async fn campaign(&self) -> StoreResult<Option<StoredCampaign>> {
        self.read_few(|sql| {
            sql.first(
                "SELECT body, program FROM update_campaign WHERE number = 1",
                &[],
                |row| {
                    Ok(StoredCampaign {
                        properties: serde_json::from_str(row.text(0)?)?,
                        program: row.text(1)?.to_string(),
                    })
                },
            )
        })
        .await
    }

    /// Puts a campaign in the place of the one before. `anew` forgets how far devices have come.
    ///
    /// # Errors
    /// The database fails.
    pub async fn set_campaign(&self, campaign: StoredCampaign, anew: bool) -> StoreResult<()> {
        self.write(move |tx| {
            let body = serde_json::to_string(&campaign.properties)?;
            tx.execute(
                "INSERT INTO update_campaign (number, body, program) VALUES (1, ?1, ?2)
                 ON CONFLICT (number) DO UPDATE SET body = excluded.body, program = excluded.program",
                &[P::Text(&body), P::Text(&campaign.program)],
            )?;
            if anew {
                tx.execute("DELETE FROM update_campaign_devices", &[])?;
            }
            Ok(())
        })
        .await
    }

    /// How far a device has come; nothing for one that was not seen.
    ///
    /// # Errors
    /// The database fails.
    pub async fn campaign_device(&self, username: &str, device: &str) -> StoreResult<Option<i64>> {
        let (username, device) = (username.to_string(), device.to_string());
        self.read_few(move |sql| {
            sql.first(
                "SELECT status FROM update_campaign_devices WHERE username = ?1 AND device = ?2",
                &[P::Text(&username), P::Text(&device)],
                |row| row.int(0),
            )
        })
        .await
    }

    /// How far every device has come that was seen, by account and device.
    ///
    /// # Errors
    /// The database fails.
    pub async fn campaign_devices(&self) -> StoreResult<HashMap<(String, String), i64>> {
        self.read(|sql| {
            let all = sql.all(
                "SELECT username, device, status FROM update_campaign_devices",
                &[],
                |row| {
                    let device = (row.text(0)?.to_string(), row.text(1)?.to_string());
                    Ok((device, row.int(2)?))
                },
            )?;
            Ok(all.into_iter().collect())
        })
        .await
    }

    /// Moves a device on if it has come as far as the caller believes (nothing for "not seen"). Whether it had.
    ///
    /// # Errors
    /// The database fails.
    pub async fn move_campaign_device(
        &self,
        username: &str,
        device: &str,
        from: Option<i64>,
        to: i64,
    ) -> StoreResult<bool> {
        let (username, device) = (username.to_string(), device.to_string());
        self.write(move |tx| {
            let key = [P::Text(&username), P::Text(&device), P::Int(to)];
            let touched = match from {
                None => tx.execute(
                    "INSERT INTO update_campaign_devices (username, device, status) VALUES (?1, ?2, ?3)
                     ON CONFLICT (username, device) DO NOTHING",
                    &key,
                )?,
                Some(from) => tx.execute(
                    "UPDATE update_campaign_devices SET status = ?3
                     WHERE username = ?1 AND device = ?2 AND status = ?4",
                    &[key[0], key[1], key[2], P::Int(from)],
                )?,
            };
            Ok(touched > 0)
        })
        .await
    }
}

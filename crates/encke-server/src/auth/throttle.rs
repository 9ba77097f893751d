//! Failed log-ins are slowed down for the pair of account and address, so guessing stops while the real owner, who
//! comes from elsewhere, is not locked out (reference, section 23).

use encke_api::types::LoginProtectionOptions;
use encke_api::{ApiError, ApiResult};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Pairs remembered at once.
const REMEMBERED: u64 = 100_000;
/// Failures before the pause, when the configuration names none.
const DEFAULT_THRESHOLD: i64 = 10;
/// Length of the pause in seconds, when the configuration names none.
const DEFAULT_COOLDOWN: i64 = 60;
/// Failures of one address over all names before it has to pause, as a multiple of the threshold.
const ADDRESS_FACTOR: i64 = 10;

#[derive(Default)]
struct Count {
    failures: AtomicI64,
    last: AtomicI64,
}

/// Counts failures by account and address, and by address alone.
pub struct Throttle {
    counts: moka::sync::Cache<(IpAddr, String), Arc<Count>>,
}

impl Default for Throttle {
    fn default() -> Self {
        let counts = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_idle(Duration::from_secs(24 * 3600))
            .build();
        Self { counts }
    }
}

impl Throttle {
    /// Refuses while the pause lasts.
    ///
    /// # Errors
    /// 429 naming the seconds to wait.
    pub fn check(&self, options: &LoginProtectionOptions, ip: IpAddr, name: &str) -> ApiResult<()> {
        if !options.enabled {
            return Ok(());
        }
        let ip = network(ip);
        let (threshold, cooldown) = limits(options);
        for (name, limit) in [(name, threshold), ("", threshold * ADDRESS_FACTOR)] {
            let Some(count) = self.counts.get(&(ip, name.to_string())) else {
                continue;
            };
            if count.failures.load(Ordering::Relaxed) < limit {
                continue;
            }
            let left = count.last.load(Ordering::Relaxed) + cooldown - crate::app::now();
            if left > 0 {
                return Err(ApiError::new(
                    429,
                    format!("Too many failed log-ins; try again in {left} seconds"),
                ));
            }
            self.counts.invalidate(&(ip, name.to_string()));
        }
        Ok(())
    }

    /// Forgets the failures of a pair that logged in. Those of the address stay: it may own one of the accounts.
    pub fn succeeded(&self, ip: IpAddr, name: &str) {
        let pair = (network(ip), name.to_string());
        if self.counts.contains_key(&pair) {
            self.counts.invalidate(&pair);
        }
    }

    /// Counts a failure.
    pub fn failed(&self, ip: IpAddr, name: &str) {
        let ip = network(ip);
        for name in [name, ""] {
            let count = self.counts.get_with((ip, name.to_string()), Arc::default);
            count.failures.fetch_add(1, Ordering::Relaxed);
            count.last.store(crate::app::now(), Ordering::Relaxed);
        }
    }
}

fn limits(options: &LoginProtectionOptions) -> (i64, i64) {
    let or = |v: i64, default| if v > 0 { v } else { default };
    (
        or(options.failure_threshold, DEFAULT_THRESHOLD),
        or(options.cooldown_seconds, DEFAULT_COOLDOWN),
    )
}

/// What a new server's configuration says.
pub(crate) fn default_protection() -> LoginProtectionOptions {
    LoginProtectionOptions {
        enabled: true,
        failure_threshold: DEFAULT_THRESHOLD,
        cooldown_seconds: DEFAULT_COOLDOWN,
        ..Default::default()
    }
}

/// Whose address it is: one household or machine owns a whole /64 of IPv6.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

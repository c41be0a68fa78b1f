//! What a server can be asked: its view, and everything about one user.

use std::collections::BTreeMap;
use std::time::Instant;

use resilience::topology::{PoolName, ServerName};
use sip::uri::AddressOfRecord;

use crate::director::{self, Homed};
use crate::view::{BindingView, Explanation, Move, PartnerView, UserView, View};

use super::Server;

impl Server {
    /// What is true now.
    pub fn view(&self, now: Instant) -> View {
        let known = &self.known;
        let pool = known.pool();
        let mut users: BTreeMap<PoolName, usize> = BTreeMap::new();
        for aor in known.location.users() {
            let home = known.config.directory.user(&aor).map(|user| user.home.clone());
            *users.entry(home.unwrap_or_else(|| PoolName::new("nowhere"))).or_default() += 1;
        }
        let partners = known.outlook.pools.iter().map(|(pool, seen)| PartnerView {
            pool: pool.clone(),
            state: seen.state,
            since: now.saturating_duration_since(seen.since),
            lost_in: seen.lost_at.map(|at| at.saturating_duration_since(now)),
        });
        View {
            server: known.own.server.clone(),
            pool: pool.name.clone(),
            role: pool.role,
            shard: known.config.shard,
            profile: known.config.topology.profile,
            topology_version: known.config.topology.version,
            directory_version: known.config.directory.version,
            store_ok: known.store_lost.is_none(),
            draining: known.draining,
            user_services: known.user_services,
            partners: partners.collect(),
            silent: known.outlook.silent.clone(),
            users: users.into_iter().collect(),
            bindings: known.location.len(),
            going_home: self.homeward.len(),
            transactions: self.proxy.len(),
        }
    }

    /// Everything about one user.
    pub fn explain(&self, aor: &AddressOfRecord, now: Instant) -> Explanation {
        let known = &self.known;
        let user = known.config.directory.user(aor);
        let order = |pool: &PoolName| -> Vec<ServerName> {
            let pool = known.config.topology.pool(pool);
            let order = pool.map(|pool| pool.preferred_order(aor.hash64())).unwrap_or_default();
            order.into_iter().map(|server| server.name.clone()).collect()
        };
        let told = user.map(|user| {
            let backup = known.config.topology.pool(&user.home).and_then(|pool| pool.backup.clone());
            UserView {
                home: user.home.clone(),
                backup_preferred: backup.as_ref().map(order).unwrap_or_default(),
                backup,
                enabled: user.enabled,
                number: user.number.clone(),
                preferred: order(&user.home),
            }
        });
        let homed = user.map(|user| director::locate(&user.home, aor.hash64(), &known.standing(now)));
        let bindings = known.location.bindings(aor).iter().map(|binding| BindingView {
            contact: binding.contact.to_string(),
            transport: binding.flow.transport,
            flow: binding.flow,
            reachable: binding.alive,
            q: binding.q,
            expires_in: binding.expires_at.saturating_duration_since(now),
            age: now.saturating_duration_since(binding.since),
            user_agent: binding.user_agent.as_deref().map(str::to_owned),
            instance: binding.instance.as_deref().map(str::to_owned),
        });
        let moves = self.moves.get(aor).into_iter().flatten();
        let moves =
            moves.map(|(at, what)| Move { ago: now.saturating_duration_since(*at), what: what.clone() });
        Explanation {
            aor: aor.clone(),
            server: known.own.server.clone(),
            answer: self.answer(user.is_some_and(|user| user.enabled), homed.as_ref()),
            if_it_died: self.if_it_died(told.as_ref(), homed.as_ref()),
            user: told,
            bindings: bindings.collect(),
            moves: moves.collect(),
        }
    }

    fn answer(&self, enabled: bool, homed: Option<&Homed>) -> String {
        match homed {
            None => "401 for ever: no such user".to_owned(),
            Some(_) if !enabled => "403 once proved: the user is disabled".to_owned(),
            Some(Homed::Here { on_backup: false }) => "200: this is the user's primary registrar".to_owned(),
            Some(Homed::Here { on_backup: true }) => {
                "200, limited: the primary pool is lost and this is its backup".to_owned()
            }
            Some(Homed::There { first, second, why }) => {
                let second =
                    second.as_ref().map(|place| format!(", then {}", place.name)).unwrap_or_default();
                format!("301 to {}{second}: {why}", first.name)
            }
            Some(Homed::Waiting { retry_after }) => {
                format!(
                    "503, come again in {} s: the primary pool is silent, not yet lost",
                    retry_after.as_secs()
                )
            }
            Some(Homed::Nowhere(why)) => format!("{}: {why}", why.status()),
        }
    }

    fn if_it_died(&self, user: Option<&UserView>, homed: Option<&Homed>) -> String {
        let Some(user) = user else { return "nothing would change".to_owned() };
        let topology = &self.known.config.topology;
        let automatic = topology.pool(&user.home).is_some_and(|pool| pool.automatic_failover);
        let interval = topology.timers.failure_detection_interval.as_secs_f64();
        match (homed, &user.backup) {
            (Some(Homed::Here { on_backup: true }), _) => {
                format!("nobody would be left until {} is back", user.home)
            }
            (_, None) => "the user would be out until it is back: no backup".to_owned(),
            (_, Some(backup)) if automatic => {
                format!("{backup} would take over after {interval} s of silence")
            }
            (_, Some(backup)) => format!("{backup} would take over when an operator says so"),
        }
    }
}

//! Whether the services answer and accept this device.

use std::time::Duration;

use aimass_net::enrol::{self, RenewError};
use aimass_net::identity::{Enrolment, IdentityFolder};
use aimass_net::{ClientEndpoint, NetError};
use aimass_protocol::ErrorCode;

use super::Check;
use crate::run::membership;
use crate::run::requests;

/// Longer than a connection attempt may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Server, authority and trust bundle.
pub(super) fn services(folder: &IdentityFolder, enrolment: &Enrolment) -> Vec<Check> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return vec![Check::fail("network", e.to_string(), "free some file descriptors or memory")],
    };
    runtime.block_on(async {
        let late = |name, addr: &str| Check::fail(name, format!("{addr} did not answer in {} s", PATIENCE.as_secs()), REACH);
        let member = enrolment.membership();
        let server = tokio::time::timeout(PATIENCE, server(folder, enrolment)).await;
        let authority = tokio::time::timeout(PATIENCE, authority(folder, enrolment)).await;
        let mut checks = vec![server.unwrap_or_else(|_| late("server", &member.server))];
        checks.extend(authority.unwrap_or_else(|_| vec![late("authority", &member.authority)]));
        checks
    })
}

const REACH: &str = "start the service, or let UDP through to it; if it moved, join again with a token that has its new address";

/// A handshake, and one request: with TLS 1.3 a server refuses a certificate only after the handshake.
async fn server(folder: &IdentityFolder, enrolment: &Enrolment) -> Check {
    let addr = &enrolment.membership().server;
    let endpoint = match ClientEndpoint::new() {
        Ok(endpoint) => endpoint,
        Err(e) => return Check::fail("server", e.to_string(), "free a UDP port"),
    };
    let connection = match membership::connect(&endpoint, enrolment, folder.key()).await {
        Ok(connection) => connection,
        Err(failure) => return Check::fail("server", failure.reason, REACH),
    };
    let answer = requests::bundle(&connection, enrolment.bundle().version()).await;
    let rtt_ms = connection.stats().rtt.as_millis();
    connection.finish();
    endpoint.close().await;
    match answer {
        Ok(_) => Check::ok("server", format!("{addr} knows this device; round trip {rtt_ms} ms")),
        Err(NetError::Refused(refusal)) if refusal.code == ErrorCode::Pending => {
            Check::warn("server", refusal.text, "wait until the operator runs `aimass agents accept`")
        }
        Err(NetError::Refused(refusal)) if refusal.code == ErrorCode::Revoked => Check::fail(
            "server",
            refusal.text,
            "ask the operator: `aimass agents accept` undoes a revocation",
        ),
        Err(NetError::CertificateRefused { expired: true, .. }) => Check::fail(
            "server",
            format!("{addr} says that the certificate is expired"),
            "compare this device's clock with the server's; `run` renews the certificate",
        ),
        Err(e) => Check::fail("server", format!("{addr}: {e}"), "see the server's log; `aimass doctor` checks it"),
    }
}

/// The authority, and whether the trust bundle is the newest.
async fn authority(folder: &IdentityFolder, enrolment: &Enrolment) -> Vec<Check> {
    let addr = &enrolment.membership().authority;
    let version = enrolment.bundle().version();
    match enrol::fetch_bundle(enrolment, folder.key()).await {
        Ok(newer) => {
            let bundle = match newer {
                None => Check::ok("bundle", format!("version {version}, the newest")),
                Some(newer) => {
                    let found = format!("version {version}, the authority has {}", newer.version());
                    Check::warn("bundle", found, "nothing: `run` takes it")
                }
            };
            vec![Check::ok("authority", format!("{addr} knows this device")), bundle]
        }
        Err(RenewError::Revoked { text }) => {
            vec![Check::fail(
                "authority",
                text,
                "ask the operator: `aimass agents accept` undoes a revocation",
            )]
        }
        Err(RenewError::Connect(e)) => {
            let fix = format!("{REACH}; until the certificate is due, work goes on without it");
            vec![Check::warn("authority", e.to_string(), fix)]
        }
        Err(e) => vec![Check::fail("authority", format!("{addr}: {e}"), "see the authority's log")],
    }
}

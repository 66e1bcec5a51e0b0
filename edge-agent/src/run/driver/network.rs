//! The connection, and the certificate and bundle that it stands on.

use std::sync::Arc;
use std::time::Duration;

use aimass_federation::agent::Event;
use aimass_net::enrol::{Bundle, RenewError};
use aimass_net::{Connection, NetError};
use aimass_protocol::ErrorCode;
use tokio::time::Instant;

use super::Driver;
use crate::event::AgentEvent;
use crate::platform::now_s;
use crate::run::RunError;
use crate::run::membership::{self, MembershipUpdate};
use crate::run::tasks::{ConnectFailure, Message, Remedy};

/// How long a revoked agent waits before it asks again: a revocation can be undone.
const REVOKED_PAUSE: Duration = Duration::from_secs(60);
/// How long a question to the authority is not repeated.
const AUTHORITY_PAUSE: Duration = Duration::from_secs(60);

/// The connection and what is known about its prospects.
#[derive(Default)]
pub(super) struct Network {
    /// The connection that stands, with its number.
    pub(super) connection: Option<(u64, Connection)>,
    connections: u64,
    /// Not before this: the operator has revoked this agent.
    not_before: Option<Instant>,
    revoked: bool,
    /// Somebody said that the certificate is expired, whatever this device's clock says.
    must_renew: bool,
    renewing: bool,
    connect_after_renewal: bool,
    /// When the authority was asked for a bundle last.
    bundle_asked: Option<Instant>,
}

impl Network {
    /// Whether the operator has revoked this agent, as far as is known.
    pub(super) fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// Whether a new certificate is being asked for.
    pub(super) fn is_renewing(&self) -> bool {
        self.renewing
    }
}

impl Driver {
    /// Connects, after renewing the certificate if it no longer holds.
    pub(super) fn begin_connect(&mut self) -> Result<(), RunError> {
        let enrolment = self.enrolment()?;
        if enrolment.beyond_renewal(now_s()) {
            return Err(RenewError::TooLate.into());
        }
        if self.network.must_renew || enrolment.expired(now_s()) {
            self.network.connect_after_renewal = true;
            return self.begin_renewal();
        }
        self.dial()
    }

    /// Connects with the certificate that is held.
    fn dial(&mut self) -> Result<(), RunError> {
        let enrolment = self.enrolment()?.clone();
        let (endpoint, key, sender) = (self.endpoint.clone(), Arc::clone(self.identity.key()), self.sender.clone());
        let not_before = self.network.not_before;
        tokio::spawn(async move {
            if let Some(at) = not_before {
                tokio::time::sleep_until(at).await;
            }
            let message = match membership::connect(&endpoint, &enrolment, &key).await {
                Ok(connection) => Message::Connected(connection),
                Err(failure) => Message::NotConnected(failure),
            };
            let _ = sender.send(message);
        });
        Ok(())
    }

    pub(super) fn begin_renewal(&mut self) -> Result<(), RunError> {
        if self.network.renewing {
            return Ok(());
        }
        self.network.renewing = true;
        let (enrolment, key, sender) = (self.enrolment()?.clone(), Arc::clone(self.identity.key()), self.sender.clone());
        let not_before = self.network.not_before;
        tokio::spawn(async move {
            if let Some(at) = not_before {
                tokio::time::sleep_until(at).await;
            }
            let _ = sender.send(Message::Membership(membership::renew(enrolment, key).await));
        });
        Ok(())
    }

    /// Asks for a newer bundle, the server first if it can be asked.
    pub(super) fn begin_bundle_refresh(&mut self) -> Result<(), RunError> {
        self.network.bundle_asked = Some(Instant::now());
        let connection = self.network.connection.as_ref().map(|(_, c)| c.clone());
        let (enrolment, key, sender) = (self.enrolment()?.clone(), Arc::clone(self.identity.key()), self.sender.clone());
        tokio::spawn(async move {
            let _ = sender.send(Message::Membership(membership::refresh_bundle(connection, enrolment, key).await));
        });
        Ok(())
    }

    /// Asks the server alone for a newer bundle: the routine question.
    pub(super) fn ask_server_for_bundle(&mut self) -> Result<(), RunError> {
        self.bundle_is_asked();
        if let Some((_, connection)) = &self.network.connection {
            let (connection, enrolment, sender) = (connection.clone(), self.enrolment()?.clone(), self.sender.clone());
            tokio::spawn(async move {
                let _ = sender.send(Message::Membership(membership::bundle_of_server(connection, enrolment).await));
            });
        }
        Ok(())
    }

    pub(super) async fn on_connected(&mut self, connection: Connection) -> Result<(), RunError> {
        self.network.connections += 1;
        let number = self.network.connections;
        self.network.connection = Some((number, connection.clone()));
        self.notes.tell(&AgentEvent::Connected {
            server: self.enrolment()?.membership().server.clone(),
        });
        let (watched, sender) = (connection, self.sender.clone());
        tokio::spawn(async move {
            let error = watched.closed().await;
            let _ = sender.send(Message::Closed { connection: number, error });
        });
        self.step(Event::Connected).await?;
        self.ask_server_for_bundle()
    }

    pub(super) async fn on_not_connected(&mut self, failure: ConnectFailure) -> Result<(), RunError> {
        match failure.remedy {
            Remedy::Wait => {}
            Remedy::Renew => self.network.must_renew = true,
            Remedy::Bundle => {
                if self.network.bundle_asked.is_none_or(|at| at.elapsed() >= AUTHORITY_PAUSE) {
                    self.begin_bundle_refresh()?;
                }
            }
        }
        self.step(Event::Disconnected { reason: failure.reason }).await
    }

    pub(super) async fn on_closed(&mut self, number: u64, error: NetError) -> Result<(), RunError> {
        if self.network.connection.as_ref().is_none_or(|(current, _)| *current != number) {
            return Ok(());
        }
        self.disconnect(error).await
    }

    /// Lets go of the connection and tells the session why.
    pub(super) async fn disconnect(&mut self, error: NetError) -> Result<(), RunError> {
        self.requests.abort_all();
        self.task_in_doubt = None;
        if let Some((_, connection)) = self.network.connection.take() {
            connection.finish();
        }
        match &error {
            NetError::CertificateRefused { expired, .. } => self.network.must_renew |= expired,
            NetError::Refused(refusal) if refusal.code == ErrorCode::Revoked => self.on_revoked(&refusal.text),
            _ => {}
        }
        self.step(Event::Disconnected { reason: error.to_string() }).await
    }

    fn on_revoked(&mut self, text: &str) {
        self.network.not_before = Some(Instant::now() + REVOKED_PAUSE);
        if !std::mem::replace(&mut self.network.revoked, true) {
            self.notes.tell(&AgentEvent::refused(ErrorCode::Revoked, text));
            tracing::warn!(
                "this agent is revoked; it asks again every {} s in case that is undone",
                REVOKED_PAUSE.as_secs()
            );
        }
        if self.options.exit_on_revoked {
            self.end = Some(("revoked".to_owned(), Err(RunError::Revoked { text: text.to_owned() })));
        }
    }

    /// The server has dealt with this agent: it is not revoked (any more).
    pub(super) fn on_welcome(&mut self) {
        self.network.not_before = None;
        if std::mem::replace(&mut self.network.revoked, false) {
            tracing::info!("the revocation was undone");
        }
    }

    pub(super) async fn on_membership(&mut self, update: MembershipUpdate) -> Result<(), RunError> {
        match update {
            MembershipUpdate::Renewed(result) => self.on_renewed(result.map(|e| *e)).await,
            MembershipUpdate::RoutineBundle(result) => {
                self.bundle_was_asked();
                self.on_bundle(result)
            }
            MembershipUpdate::Bundle(result) => {
                self.on_bundle(result)?;
                match self.task_in_doubt.take() {
                    Some(task) => self.on_task(task, true).await,
                    None => Ok(()),
                }
            }
        }
    }

    fn on_bundle(&mut self, result: Result<Option<Bundle>, RenewError>) -> Result<(), RunError> {
        match result {
            Ok(None) => {}
            Ok(Some(bundle)) => {
                // Two answers may cross; only the newer may stand.
                if bundle.version() > self.enrolment()?.bundle().version() {
                    let version = bundle.version();
                    self.identity.save_bundle(bundle)?;
                    self.notes.tell(&AgentEvent::Bundle { version });
                }
            }
            Err(e) => tracing::warn!("the trust bundle could not be refreshed: {e}"),
        }
        Ok(())
    }

    async fn on_renewed(&mut self, result: Result<aimass_net::identity::Enrolment, RenewError>) -> Result<(), RunError> {
        self.network.renewing = false;
        let connect = std::mem::take(&mut self.network.connect_after_renewal);
        match result {
            Ok(enrolment) => {
                let certificate_s = enrolment.info().not_after_s - now_s();
                self.identity.save(enrolment)?;
                self.network.must_renew = false;
                self.renewal_was_tried()?;
                self.notes.tell(&AgentEvent::Renewed { certificate_s });
                if certificate_s < 0 {
                    tracing::error!("by this device's clock the new certificate is over already: set the clock");
                }
                // Whatever that clock says: nobody has a newer certificate.
                if connect { self.dial() } else { Ok(()) }
            }
            Err(RenewError::TooLate) if connect => Err(RenewError::TooLate.into()),
            Err(e) => {
                self.renewal_was_tried()?;
                if let RenewError::Revoked { text } = &e {
                    self.on_revoked(text);
                }
                if connect {
                    return self
                        .step(Event::Disconnected {
                            reason: format!("the certificate could not be renewed: {e}"),
                        })
                        .await;
                }
                tracing::warn!("the certificate could not be renewed: {e}; it is tried again");
                Ok(())
            }
        }
    }
}

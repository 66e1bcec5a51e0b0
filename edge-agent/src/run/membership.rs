//! Keeps the certificate and the trust bundle fresh.

use std::sync::Arc;

use aimass_crypto::sign::SigningKey;
use aimass_net::enrol::{self, Bundle, RenewError};
use aimass_net::identity::Enrolment;
use aimass_net::{ClientEndpoint, ConnectError, Connection};

use super::requests;
use super::tasks::{ConnectFailure, Remedy};

/// What was asked, and what came of it.
pub(crate) enum MembershipUpdate {
    /// A renewed certificate with the newest bundle.
    Renewed(Result<Box<Enrolment>, RenewError>),
    /// The answer to the routine question: a newer bundle, or none.
    RoutineBundle(Result<Option<Bundle>, RenewError>),
    /// The same after everybody was asked: what is not in it is nowhere.
    Bundle(Result<Option<Bundle>, RenewError>),
}

/// Connects to the aggregation server as the enrolment says.
pub(crate) async fn connect(endpoint: &ClientEndpoint, enrolment: &Enrolment, key: &SigningKey) -> Result<Connection, ConnectFailure> {
    endpoint.connect_member(enrolment, key).await.map_err(|e| {
        let remedy = match &e {
            ConnectError::Refused { expired: true, .. } => Remedy::Renew,
            ConnectError::Untrusted { .. } => Remedy::Bundle,
            _ => Remedy::Wait,
        };
        ConnectFailure {
            reason: e.to_string(),
            remedy,
        }
    })
}

/// Asks the authority for a new certificate.
pub(crate) async fn renew(enrolment: Enrolment, key: Arc<SigningKey>) -> MembershipUpdate {
    MembershipUpdate::Renewed(enrol::renew(&enrolment, &key).await.map(Box::new))
}

/// Asks the server for a newer bundle, and where it has none that may be taken, the authority.
pub(crate) async fn refresh_bundle(connection: Option<Connection>, enrolment: Enrolment, key: Arc<SigningKey>) -> MembershipUpdate {
    let held = enrolment.bundle();
    if let Some(connection) = connection
        && let Ok(Some(received)) = requests::bundle(&connection, held.version()).await
        && let Ok(Some(newer)) = held.accept(&received)
    {
        return MembershipUpdate::Bundle(Ok(Some(newer)));
    }
    MembershipUpdate::Bundle(enrol::fetch_bundle(&enrolment, &key).await)
}

/// Asks the server alone: the routine question, after each connection and now and then.
pub(crate) async fn bundle_of_server(connection: Connection, enrolment: Enrolment) -> MembershipUpdate {
    let held = enrolment.bundle();
    let newer = match requests::bundle(&connection, held.version()).await {
        Ok(Some(received)) => held.accept(&received).map_err(RenewError::from),
        // The next connection asks again.
        Ok(None) | Err(_) => Ok(None),
    };
    MembershipUpdate::RoutineBundle(newer)
}

//! The side that devices and servers see: enrolment with a token, renewal with a certificate.

use std::sync::Arc;
use std::time::Duration;

use aimass_crypto::cert::RENEWAL_GRACE;
use aimass_net::{ClientAuth, Connection, FrameReader, FrameWriter, Incoming, Limits, NetError, ServerEndpoint, reply};
use aimass_protocol::frame::ALPN_ENROL;
use aimass_protocol::message::Refusal;
use aimass_protocol::message::agent::BundleReply;
use aimass_protocol::message::authority::{EnrolRequest, RenewRequest, RevocationReply};
use aimass_protocol::{Checked, ErrorCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_bytes::ByteBuf;
use tokio::task::JoinSet;

use super::issue::Member;
use super::service::Service;
use super::{OperatorError, now};

/// Who enrols has no certificate yet.
pub(crate) const ENROL_AUTH: ClientAuth = ClientAuth::None;
/// Who renews may be late.
pub(crate) const RENEW_AUTH: ClientAuth = ClientAuth::Required {
    allow_expired: Some(RENEWAL_GRACE),
};
/// How long one client may stay: a few small requests.
const CONNECTION_TIME: Duration = Duration::from_secs(60);
/// Most requests on one connection: following a long row of bundles, and a renewal.
const MAX_REQUESTS: usize = 128;

/// Enrolment is rare and short, so little is open at once; a burst waits in its retransmissions.
pub(crate) fn limits() -> Limits {
    Limits {
        max_connections: 512,
        max_handshakes: 128,
        retry_above: 32,
        ..Limits::default()
    }
}

/// Accepts until the endpoint is closed, then waits to be dropped. Who is served is in `clients`.
pub(crate) async fn serve(service: Arc<Service>, endpoint: &ServerEndpoint, clients: &mut JoinSet<()>) {
    while let Some(incoming) = endpoint.accept().await {
        let service = Arc::clone(&service);
        clients.spawn(async move {
            let peer = incoming.remote_address();
            match tokio::time::timeout(CONNECTION_TIME, talk(&service, incoming)).await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => tracing::debug!(%peer, "connection ended: {e}"),
                Err(_) => service.count("connection_timeout"),
            }
        });
        while clients.try_join_next().is_some() {}
    }
    std::future::pending::<()>().await;
}

async fn talk(service: &Arc<Service>, incoming: Incoming) -> Result<(), NetError> {
    let connection = match incoming.handshake().await {
        Ok(connection) => connection,
        Err(e) => {
            service.count(e.name());
            tracing::info!("{e}");
            return Ok(());
        }
    };
    for _ in 0..MAX_REQUESTS {
        let Some((mut writer, reader)) = connection.accept().await? else {
            return Ok(());
        };
        answer(service, &connection, &mut writer, reader).await?;
    }
    connection.close(ErrorCode::TooLarge, "too many requests on one connection: open another");
    Ok(())
}

async fn answer(
    service: &Arc<Service>,
    connection: &Connection,
    writer: &mut FrameWriter,
    mut reader: FrameReader,
) -> Result<(), NetError> {
    if connection.alpn() == ALPN_ENROL {
        let answered = match read(&mut reader).await? {
            Ok(EnrolRequest::Enrol(ask)) => settle(service.with_state(move |state| state.enrol(now(), &ask)).await),
            Err(refusal) => Err(refusal),
        };
        return send(service, connection, writer, "enrolled", answered).await;
    }
    let member = connection.peer().ok_or_else(no_certificate).and_then(Member::from_certificate);
    let (ask, member) = match (read(&mut reader).await?, member) {
        (Ok(ask), Ok(member)) => (ask, member),
        (Err(refusal), _) | (_, Err(refusal)) => return send::<RevocationReply>(service, connection, writer, "", Err(refusal)).await,
    };
    match ask {
        RenewRequest::Renew(ask) => {
            let answered = settle(service.with_state(move |state| state.renew(now(), &member, &ask)).await);
            send(service, connection, writer, "renewed", answered).await
        }
        RenewRequest::Bundle(ask) => {
            let work = service.with_state(move |state| {
                state.require_unrevoked(&member.tenant, member.id)?;
                let bundle = state
                    .bundle_after(ask.have_version)
                    .map(|bundle| ByteBuf::from(bundle.as_bytes().to_vec()));
                Ok(BundleReply { bundle })
            });
            send(service, connection, writer, "bundle_asked", settle(work.await)).await
        }
        RenewRequest::SetRevoked(ask) => {
            let (server, agent, revoked) = (member.id, ask.agent, ask.revoked);
            let answered = settle(service.with_state(move |state| state.set_revoked(now(), &member, &ask)).await);
            if answered.is_ok() {
                tracing::info!(server = %server.to_hex(), agent = %agent.to_hex(), revoked, "revocation set");
            }
            send(service, connection, writer, "revocation_set", answered).await
        }
    }
}

/// One request; what is none is refused, and only a broken connection is an error.
async fn read<T: DeserializeOwned + Checked>(reader: &mut FrameReader) -> Result<Result<T, Refusal>, NetError> {
    match reader.control().await {
        Ok(ask) => Ok(Ok(ask)),
        Err(NetError::Protocol { reason }) => Ok(Err(Refusal::new(
            ErrorCode::Malformed,
            format!("the request can't be read: {reason}"),
        ))),
        Err(e) => Err(e),
    }
}

fn no_certificate() -> Refusal {
    Refusal::new(ErrorCode::Forbidden, "this request needs a certificate: join with a token first")
}

/// A failure of ours is told as one.
fn settle<T>(worked: Result<Result<T, Refusal>, OperatorError>) -> Result<T, Refusal> {
    worked.unwrap_or_else(|e| {
        tracing::error!("{e}");
        Err(Refusal::new(
            ErrorCode::Unavailable,
            "the authority can't do this now: try again later",
        ))
    })
}

/// Counts the outcome and sends it.
async fn send<T: Serialize + Checked>(
    service: &Service,
    connection: &Connection,
    writer: &mut FrameWriter,
    done: &'static str,
    answered: Result<T, Refusal>,
) -> Result<(), NetError> {
    match &answered {
        Ok(_) => service.count(done),
        Err(refusal) => {
            service.count(refusal.code.name());
            tracing::info!(peer = %connection.remote_address(), code = refusal.code.name(), "refused: {}", refusal.text);
        }
    }
    reply(writer, answered).await?;
    writer.finish();
    Ok(())
}

//! quinn's errors and TLS's alerts, mapped to ours in one place.

use std::net::SocketAddr;

use aimass_protocol::ErrorCode;
use aimass_protocol::message::Refusal;
use quinn::{ConnectionError, ReadError, TransportErrorCode, VarInt, WriteError};

use crate::{ConnectError, HandshakeError, NetError};

/// A close in peace; no [`ErrorCode`] has this number.
pub(crate) const PEACE: VarInt = VarInt::from_u32(0);

/// TLS alerts (RFC 8446, section 6.2) that are about a certificate, in words for a person.
const CERTIFICATE_ALERTS: [(u8, &str); 9] = [
    (42, "it is damaged or not for this name"),
    (43, "it is not for this use"),
    (44, "it is revoked"),
    (EXPIRED, "it is expired or not valid yet"),
    (46, "it is not acceptable"),
    (48, "it is of an unknown authority"),
    (49, "it gives no access"),
    (51, "its signature does not hold"),
    (NO_CERTIFICATE, "one is required"),
];
const EXPIRED: u8 = 45;
const NO_CERTIFICATE: u8 = 116;
const NO_APPLICATION_PROTOCOL: u8 = 120;

pub(crate) fn wire(code: ErrorCode) -> VarInt {
    VarInt::from_u32(code.as_u16().into())
}

/// What ended a connection, for its user.
pub(crate) fn net_error(error: &ConnectionError) -> NetError {
    match error {
        ConnectionError::ApplicationClosed(close) if close.error_code != PEACE => {
            refused(close.error_code, String::from_utf8_lossy(&close.reason).into_owned())
        }
        ConnectionError::ApplicationClosed(_) => NetError::Broken {
            reason: "the peer closed the connection".to_owned(),
        },
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(alert) => match certificate_text(alert) {
                Some(text) => NetError::CertificateRefused {
                    reason: text.to_owned(),
                    expired: alert == EXPIRED,
                },
                None => NetError::Broken { reason: error.to_string() },
            },
            None => NetError::Broken { reason: error.to_string() },
        },
        ConnectionError::TimedOut => NetError::Broken {
            reason: "the peer was not heard of for too long".to_owned(),
        },
        other => NetError::Broken { reason: other.to_string() },
    }
}

/// Why a client's handshake failed; `addr` as the user gave it.
pub(crate) fn connect_error(addr: &str, error: &ConnectionError) -> ConnectError {
    let addr = addr.to_owned();
    match error {
        // We refused the server.
        ConnectionError::TransportError(e) if alert(e.code) == Some(NO_APPLICATION_PROTOCOL) => ConnectError::Version { addr },
        ConnectionError::TransportError(e) if alert(e.code).is_some() => ConnectError::Untrusted {
            addr,
            reason: e.reason.clone(),
        },
        // It refused us.
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
            Some(NO_APPLICATION_PROTOCOL) => ConnectError::Version { addr },
            Some(alert) => ConnectError::Refused {
                addr,
                reason: certificate_text(alert).map_or_else(|| format!("TLS alert {alert}"), str::to_owned),
                expired: alert == EXPIRED,
            },
            None if close.error_code == TransportErrorCode::CONNECTION_REFUSED => ConnectError::Busy { addr },
            None => ConnectError::Local {
                reason: format!("{addr} ended the handshake: {error}"),
            },
        },
        ConnectionError::VersionMismatch => ConnectError::Version { addr },
        ConnectionError::TimedOut | ConnectionError::Reset => ConnectError::Unreachable { addr },
        ConnectionError::ApplicationClosed(_) => ConnectError::Busy { addr },
        other => ConnectError::Local {
            reason: format!("the handshake with {addr} failed: {other}"),
        },
    }
}

/// Why a server's handshake failed.
pub(crate) fn handshake_error(peer: SocketAddr, error: &ConnectionError) -> HandshakeError {
    match error {
        // We refused the client.
        ConnectionError::TransportError(e) => match alert(e.code) {
            Some(NO_APPLICATION_PROTOCOL) => HandshakeError::Version { peer },
            Some(NO_CERTIFICATE) => HandshakeError::NoCertificate { peer },
            Some(EXPIRED) => HandshakeError::Expired { peer },
            Some(alert) if certificate_text(alert).is_some() => HandshakeError::Certificate {
                peer,
                reason: e.reason.clone(),
            },
            _ => HandshakeError::Broken {
                peer,
                reason: error.to_string(),
            },
        },
        // It refused us.
        ConnectionError::ConnectionClosed(close) => match alert(close.error_code).and_then(certificate_text) {
            Some(text) => HandshakeError::DistrustsUs {
                peer,
                reason: text.to_owned(),
            },
            None => HandshakeError::Broken {
                peer,
                reason: error.to_string(),
            },
        },
        ConnectionError::TimedOut => HandshakeError::TimedOut { peer },
        other => HandshakeError::Broken {
            peer,
            reason: other.to_string(),
        },
    }
}

pub(crate) fn read_error(error: &ReadError) -> NetError {
    match error {
        ReadError::Reset(PEACE) => NetError::Broken {
            reason: "the peer gave up the stream".to_owned(),
        },
        ReadError::Reset(code) => refused(*code, "the peer gave up the stream".to_owned()),
        ReadError::ConnectionLost(e) => net_error(e),
        other => NetError::Broken { reason: other.to_string() },
    }
}

pub(crate) fn write_error(error: &WriteError) -> NetError {
    match error {
        WriteError::Stopped(code) => stopped(*code),
        WriteError::ConnectionLost(e) => net_error(e),
        other => NetError::Broken { reason: other.to_string() },
    }
}

/// The peer reads no more. It may have said why in a frame.
pub(crate) fn stopped(code: VarInt) -> NetError {
    let code = if code == PEACE { wire(ErrorCode::Unavailable) } else { code };
    refused(code, "the peer stopped reading".to_owned())
}

fn refused(code: VarInt, text: String) -> NetError {
    NetError::Refused(Refusal::new(
        ErrorCode::from(u16::try_from(code.into_inner()).unwrap_or(u16::MAX)),
        text,
    ))
}

fn certificate_text(alert: u8) -> Option<&'static str> {
    CERTIFICATE_ALERTS.iter().find(|row| row.0 == alert).map(|row| row.1)
}

/// The TLS alert in a transport error code (RFC 9001, section 4.8).
fn alert(code: TransportErrorCode) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}

//! What an API answers when it can't answer: a status, a word for machines and a text that says the fix.

use std::borrow::Cow;

use aimass_protocol::ErrorCode;
use aimass_protocol::message::Refusal;
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::json;

/// An error of an API: `{"error": text, "code": word}` with an HTTP status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({code})")]
pub struct ApiError {
    status: StatusCode,
    code: Cow<'static, str>,
    text: String,
}

impl ApiError {
    /// An error: `code` is a stable word, `text` says what is wrong and what to do about it.
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self {
            status,
            code: code.into(),
            text: text.into(),
        }
    }

    /// 400: the request itself is wrong.
    pub fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", text)
    }

    /// 404: what it names does not exist.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", text)
    }

    /// 409: it does not fit what holds now.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", text)
    }

    /// 503: it may succeed later (disk full, store failed).
    pub fn unavailable(text: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", text)
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The word for machines.
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            ErrorCode::TokenUnknown | ErrorCode::JobUnknown | ErrorCode::BlobUnknown | ErrorCode::CohortUnknown => StatusCode::NOT_FOUND,
            ErrorCode::Forbidden | ErrorCode::Revoked | ErrorCode::Pending => StatusCode::FORBIDDEN,
            ErrorCode::TokenUsed | ErrorCode::TokenExpired | ErrorCode::StaleBase | ErrorCode::Late | ErrorCode::Duplicate => {
                StatusCode::CONFLICT
            }
            ErrorCode::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, refusal.code.name(), refusal.text)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.text, "code": self.code }))).into_response()
    }
}

/// A JSON body. What does not parse is answered with an [`ApiError`].
#[derive(Debug, Clone, Copy)]
pub struct ApiJson<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for ApiJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(rejection) => Err(json_error(&rejection)),
        }
    }
}

fn json_error(rejection: &JsonRejection) -> ApiError {
    let code = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        "too_large"
    } else {
        "bad_request"
    };
    ApiError::new(rejection.status(), code, rejection.body_text())
}

/// A query string. What does not parse is answered with an [`ApiError`].
#[derive(Debug, Clone, Copy)]
pub struct ApiQuery<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for ApiQuery<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Query::from_request_parts(parts, state).await {
            Ok(Query(value)) => Ok(Self(value)),
            Err(rejection) => Err(query_error(&rejection)),
        }
    }
}

fn query_error(rejection: &QueryRejection) -> ApiError {
    ApiError::new(rejection.status(), "bad_request", rejection.body_text())
}

//! The answer that the echo gives: one of the gateway's own, so that both send the same bytes.

use std::{collections::BTreeMap, fs, io, path::Path};

use http::HeaderMap;
use prost::Message;
use serde::{Deserialize, Serialize};
use tonic::{
    Response, Status,
    metadata::{AsciiMetadataKey, MetadataMap, MetadataValue},
};

use crate::{bench::connection::Reply, json_file};

/// Its file, in the directory of a benchmark.
pub(crate) const FILE: &str = "answer.json";

/// Headers that tonic writes itself.
const WRITTEN_BY_TONIC: [&str; 4] = ["content-type", "date", "grpc-status", "grpc-message"];
/// A status's details, which tonic writes too.
const DETAILS: &str = "grpc-status-details-bin";

/// An answer to be given again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// To which method.
    pub(crate) method: Method,
    code: i32,
    status_message: String,
    /// Base 64, as in the header.
    status_details: String,
    metadata: BTreeMap<String, String>,
    message: Vec<u8>,
}

/// The methods that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Method {
    /// Authorize.
    Authorize,
    /// Check.
    Check,
}

impl Answer {
    /// Takes it from a reply.
    pub(crate) fn of(method: Method, reply: &Reply) -> Self {
        let text = |name: &str| {
            reply.metadata.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
        };
        Self {
            method,
            code: reply.code,
            // Percent-encoded on the wire, and plain ASCII in all that the gateway says; the length is what matters.
            status_message: text("grpc-message").replace("%20", " "),
            status_details: text(DETAILS),
            metadata: custom_metadata(&reply.metadata),
            message: reply.message.to_vec(),
        }
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        json_file::write(path, self)
    }

    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Decoded once; what remains for each call is a clone.
    pub(crate) fn decoded<M: Message + Default>(&self) -> io::Result<Decoded<M>> {
        let metadata = self.metadata_map()?;
        if self.code == 0 {
            return Ok(Decoded::Message { message: M::decode(self.message.as_slice())?, metadata });
        }
        let mut headers = HeaderMap::new();
        let header = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        headers.insert("grpc-status", self.code.into());
        headers.insert(DETAILS, self.status_details.parse().map_err(header)?);
        // The only way to a status from the details' encoded form.
        let details =
            Status::from_header_map(&headers).map(|status| status.details().to_vec()).unwrap_or_default();
        let message = self.status_message.clone();
        Ok(Decoded::Status(Status::with_details_and_metadata(
            self.code.into(),
            message,
            details.into(),
            metadata,
        )))
    }

    fn metadata_map(&self) -> io::Result<MetadataMap> {
        let mut map = MetadataMap::new();
        for (name, value) in &self.metadata {
            let invalid = || io::Error::new(io::ErrorKind::InvalidData, format!("metadata {name}"));
            let key: AsciiMetadataKey = name.parse().map_err(|_| invalid())?;
            let value = MetadataValue::try_from(value).map_err(|_| invalid())?;
            map.insert(key, value);
        }
        Ok(map)
    }
}

/// An answer, ready to be cloned.
#[derive(Debug, Clone)]
pub(crate) enum Decoded<M> {
    /// An OK with a message.
    Message {
        /// The message.
        message: M,
        /// Headers beyond tonic's own.
        metadata: MetadataMap,
    },
    /// An error.
    Status(Status),
}

impl<M: Clone> Decoded<M> {
    /// Gives it.
    pub(crate) fn give(&self) -> Result<Response<M>, Status> {
        match self {
            Self::Message { message, metadata } => {
                let mut response = Response::new(message.clone());
                if !metadata.is_empty() {
                    *response.metadata_mut() = metadata.clone();
                }
                Ok(response)
            }
            Self::Status(status) => Err(status.clone()),
        }
    }
}

fn custom_metadata(headers: &HeaderMap) -> BTreeMap<String, String> {
    headers
        .iter()
        .filter(|(name, _)| !WRITTEN_BY_TONIC.contains(&name.as_str()) && !name.as_str().ends_with("-bin"))
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use podgate_proto::v1::CheckResponse;
    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    fn reply(status: Option<&Status>, message: &CheckResponse) -> Reply {
        let mut metadata = HeaderMap::new();
        metadata.insert("content-type", "application/grpc".parse().unwrap());
        metadata.insert("grpc-retry-pushback-ms", "1500".parse().unwrap());
        if let Some(status) = status {
            status.add_header(&mut metadata).unwrap();
        }
        let code = status.map_or(0, |status| status.code() as i32);
        Reply { code, metadata, message: message.encode_to_vec().into() }
    }

    #[test]
    fn an_answer_is_given_as_it_came() {
        let message = CheckResponse { app: "x".to_owned(), ..CheckResponse::default() };
        let answer = Answer::of(Method::Check, &reply(None, &message));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        answer.write(&path).unwrap();
        let read = Answer::read(&path).unwrap();
        assert_eq!(read, answer);
        let given = read.decoded::<CheckResponse>().unwrap().give().unwrap();
        assert_eq!(given.metadata().get("grpc-retry-pushback-ms").unwrap(), "1500");
        assert_eq!(given.metadata().len(), 1);
        assert_eq!(given.into_inner(), message);
    }

    #[test]
    fn an_error_is_given_with_its_details() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let status = Status::with_error_details(tonic::Code::ResourceExhausted, "slow down please", details);
        let answer = Answer::of(Method::Check, &reply(Some(&status), &CheckResponse::default()));
        let given = answer.decoded::<CheckResponse>().unwrap().give().unwrap_err();
        assert_eq!((given.code(), given.message()), (status.code(), "slow down please"));
        assert_eq!(given.details(), status.details());
        assert_eq!(given.get_details_retry_info().unwrap().retry_delay, Some(Duration::from_secs(7)));
        assert_eq!(given.metadata().get("grpc-retry-pushback-ms").unwrap(), "1500");
    }
}

//! Bodies of requests: read within their limits of size and time, and decompressed.

use std::io::Read;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http_body_util::BodyExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout_at;

use crate::app::App;
use crate::error::RequestError;

/// The most bytes and the longest time for which the rest of a refused body is read, so that the client, which may
/// still be sending, can read the answer.
const DISCARDED_BYTES: usize = 1 << 20;
const DISCARDING_TIME: Duration = Duration::from_secs(1);

/// The bytes that are asked of the memory at a time.
const RESERVED_AT_ONCE: usize = 64 << 10;

/// A body in memory, with its share of what all requests have together.
#[derive(Debug)]
pub(crate) struct RequestBody {
    pub(crate) bytes: Bytes,
    pub(crate) memory: Option<OwnedSemaphorePermit>,
}

/// Reads a body to its end.
pub(crate) async fn read(
    app: &App,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<RequestBody, RequestError> {
    let encoding = Encoding::of(headers)?;
    match read_raw(app, headers, &mut body).await {
        Ok((bytes, memory)) => decompress(app, encoding, bytes, memory).await,
        Err(error) => {
            discard(body).await;
            Err(error.closing())
        }
    }
}

/// Reads some of a body that nobody wants.
pub(crate) async fn discard(mut body: Body) {
    let deadline = Instant::now() + DISCARDING_TIME;
    let mut read = 0;
    while let Ok(Some(Ok(frame))) = timeout_at(deadline.into(), body.frame()).await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > DISCARDED_BYTES {
            return;
        }
    }
}

async fn read_raw(
    app: &App,
    headers: &HeaderMap,
    body: &mut Body,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), RequestError> {
    let limit = app.options.limits.body_bytes;
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|value| value.parse::<u64>().ok());
    if declared.is_some_and(|declared| declared > limit as u64) {
        return Err(over_limit(limit));
    }
    let deadline = Instant::now() + app.options.limits.body_time;
    let mut bytes: Vec<u8> = Vec::new();
    let mut memory: Option<OwnedSemaphorePermit> = None;
    let mut reserved = 0;
    loop {
        let frame = match timeout_at(deadline.into(), body.frame()).await {
            Err(_) => {
                let seconds = app.options.limits.body_time.as_secs_f32();
                return Err(RequestError::new(
                    StatusCode::REQUEST_TIMEOUT,
                    format!("the body did not come within {seconds} s"),
                ));
            }
            Ok(None) => return Ok((bytes, memory)),
            Ok(Some(Err(_))) => {
                return Err(RequestError::bad("the body ends before its end, or is no body"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(over_limit(limit));
        }
        if bytes.len() + data.len() > reserved {
            let more = (bytes.len() + data.len() - reserved).max(RESERVED_AT_ONCE);
            let permit = app.reserve(more)?;
            reserved += more;
            match &mut memory {
                Some(memory) => memory.merge(permit),
                None => memory = Some(permit),
            }
        }
        bytes.extend_from_slice(data);
    }
}

fn over_limit(limit: usize) -> RequestError {
    RequestError::too_large(format!(
        "the body has more than {limit} bytes\nhint: send fewer or smaller pictures, or start the server with a larger \
         --max-body"
    ))
}

/// The compression of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    None,
    Gzip,
    /// The format of zlib, which HTTP calls deflate.
    Deflate,
}

impl Encoding {
    fn of(headers: &HeaderMap) -> Result<Self, RequestError> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::None) };
        match value.to_str().unwrap_or("").trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::None),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            _ => Err(RequestError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this Content-Encoding is not known\nhint: use gzip, deflate or none",
            )
            .closing()),
        }
    }

    /// Returns the best compression that a client accepts.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let value = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
        let accepts = |name: &str| {
            value.is_some_and(|value| {
                value.split(',').any(|part| {
                    let (coding, quality) = part.split_once(';').unwrap_or((part, ""));
                    let quality = quality
                        .trim()
                        .strip_prefix("q=")
                        .map_or(Some(1.0), |quality| quality.trim().parse::<f32>().ok());
                    coding.trim().eq_ignore_ascii_case(name) && quality.is_some_and(|q| q > 0.0)
                })
            })
        };
        if accepts("gzip") {
            Self::Gzip
        } else if accepts("deflate") {
            Self::Deflate
        } else {
            Self::None
        }
    }
}

async fn decompress(
    app: &App,
    encoding: Encoding,
    bytes: Vec<u8>,
    memory: Option<OwnedSemaphorePermit>,
) -> Result<RequestBody, RequestError> {
    if encoding == Encoding::None {
        return Ok(RequestBody { bytes: bytes.into(), memory });
    }
    let limit = app.options.limits.body_bytes;
    let work = tokio::task::spawn_blocking(move || inflate(encoding, &bytes, limit));
    let bytes = work.await.map_err(|_| RequestError::bad("the body cannot be decompressed"))??;
    // The compressed bytes are gone, so their share is not needed any more.
    drop(memory);
    let memory = Some(app.reserve(bytes.len())?);
    Ok(RequestBody { bytes: bytes.into(), memory })
}

/// Decompresses up to a limit of bytes.
fn inflate(encoding: Encoding, bytes: &[u8], limit: usize) -> Result<Vec<u8>, RequestError> {
    let most = limit as u64 + 1;
    let mut out = Vec::new();
    let read = match encoding {
        Encoding::None => bytes.take(most).read_to_end(&mut out),
        Encoding::Gzip => MultiGzDecoder::new(bytes).take(most).read_to_end(&mut out),
        Encoding::Deflate => ZlibDecoder::new(bytes).take(most).read_to_end(&mut out),
    };
    if out.len() > limit {
        return Err(over_limit(limit));
    }
    match read {
        Ok(_) => Ok(out),
        Err(error) => Err(RequestError::bad(format!(
            "the body is not what its Content-Encoding says: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use axum::http::HeaderValue;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    #[test]
    fn bombs_and_garbage_are_refused() {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&vec![0; 100_000]).unwrap();
        let gzip = gzip.finish().unwrap();
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"some bytes").unwrap();
        let zlib = zlib.finish().unwrap();
        assert_eq!(inflate(Encoding::Gzip, &gzip, 100_000).unwrap().len(), 100_000);
        let error = inflate(Encoding::Gzip, &gzip, 99_999).unwrap_err();
        assert_eq!(error.status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(inflate(Encoding::Deflate, &zlib, 100).unwrap(), b"some bytes");
        for (encoding, bytes) in [
            (Encoding::Gzip, &zlib[..]),
            (Encoding::Gzip, &gzip[..gzip.len() / 2]),
            (Encoding::Deflate, &gzip[..]),
            (Encoding::Deflate, &[][..]),
        ] {
            let error = inflate(encoding, bytes, 1_000_000).unwrap_err();
            assert_eq!(error.status, StatusCode::BAD_REQUEST, "{error:?}");
        }
    }

    #[test]
    fn clients_choose_the_compression() {
        for (accept, expected) in [
            ("gzip, deflate", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("gzip;q=0, deflate;q=0.5", Encoding::Deflate),
            ("br", Encoding::None),
            ("", Encoding::None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accept));
            assert_eq!(Encoding::accepted(&headers), expected, "{accept}");
        }
        assert_eq!(Encoding::accepted(&HeaderMap::new()), Encoding::None);
    }
}

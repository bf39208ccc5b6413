//! A hub on this machine: one thread, one request a connection, answers from a closure.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A request that came in.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) authorization: Option<String>,
}

/// An answer that goes out.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Say nothing more after that many bytes of the body, but keep the connection.
    pub(super) stall_after: Option<usize>,
    /// Send the body byte by byte, with this pause between them.
    pub(super) drip: Option<Duration>,
    /// Do not even send the headers.
    pub(super) mute: bool,
}

impl Answer {
    pub(super) fn new(status: u16, body: &[u8]) -> Self {
        let length = ("Content-Length".to_owned(), body.len().to_string());
        Self {
            status,
            headers: vec![length],
            body: body.to_vec(),
            stall_after: None,
            drip: None,
            mute: false,
        }
    }

    /// Sets or replaces a header; an empty value removes it.
    pub(super) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        if !value.is_empty() {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }
}

/// The server; it stops when dropped.
pub(super) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (log, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let reply = answer(&request);
                log.lock().unwrap().push(request);
                // The client may hang up early; that is its right.
                let _ = write(&mut stream, &reply);
                if reply.mute || reply.stall_after.is_some() {
                    held.push(stream);
                }
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut authorization = None;
    for line in lines {
        let line = line.ok()?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("authorization") {
            authorization = Some(value.trim().to_owned());
        }
    }
    Some(Request { path, authorization })
}

fn write(stream: &mut TcpStream, answer: &Answer) -> std::io::Result<()> {
    if answer.mute {
        return Ok(());
    }
    write!(stream, "HTTP/1.1 {} Said\r\nConnection: close\r\n", answer.status)?;
    for (name, value) in &answer.headers {
        write!(stream, "{name}: {value}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    if let Some(pause) = answer.drip {
        stream.flush()?;
        for byte in &answer.body {
            stream.write_all(&[*byte])?;
            std::thread::sleep(pause);
        }
        return stream.flush();
    }
    stream.write_all(&answer.body[..answer.stall_after.unwrap_or(answer.body.len())])?;
    stream.flush()
}

//! A link that loses things: HTTP to a server and back, one request a connection.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What becomes of a request.
#[derive(Clone)]
pub enum Loss {
    /// The server does it; its answer is lost, and the connection closed, or reset.
    Closed,
    Reset,
    /// It does it, and half of the answer's body arrives.
    Cut,
    /// It does it after so long.
    Stalled(Duration),
    /// It never sees it; somebody else answers this.
    Answered(u16, String),
}

/// Of a request, `GET /bucket/key?query`, that comes for the n-th time, from 0.
type Plan = dyn Fn(&str, usize) -> Option<Loss> + Send + Sync;

struct Link {
    server: SocketAddr,
    plan: Box<Plan>,
    seen: Mutex<HashMap<String, usize>>,
    ended: AtomicBool,
}

/// The link; it ends when this is dropped.
pub struct Proxy {
    pub address: SocketAddr,
    link: Arc<Link>,
    accepts: Option<JoinHandle<()>>,
}

impl Proxy {
    pub fn new(
        server: SocketAddr,
        plan: impl Fn(&str, usize) -> Option<Loss> + Send + Sync + 'static,
    ) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (seen, ended) = (Mutex::default(), AtomicBool::new(false));
        let link = Arc::new(Link { server, plan: Box::new(plan), seen, ended });
        let shared = link.clone();
        let accepts = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(Ordering::Relaxed) {
                    return;
                }
                let link = shared.clone();
                // What breaks is broken on purpose, or by who asks.
                thread::spawn(move || link.carry(stream).ok());
            }
        });
        Proxy { address, link, accepts: Some(accepts) }
    }

    /// How often each request came.
    pub fn seen(&self) -> HashMap<String, usize> {
        self.link.seen.lock().unwrap().clone()
    }

    /// How many requests came whose line holds this.
    pub fn count(&self, what: &str) -> usize {
        self.seen().iter().filter(|(line, _)| line.contains(what)).map(|(_, times)| times).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.link.ended.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(accepts) = self.accepts.take() {
            let _ = accepts.join();
        }
    }
}

/// A message's head, without what says how long the connection lasts, and its body as it is on the wire; one that does not say
/// how long it is ends with the connection, or is none.
fn message(from: &mut impl BufRead, is_last: bool) -> io::Result<(Vec<String>, Vec<u8>)> {
    let (mut head, mut length) = (Vec::new(), None);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse::<u64>().ok();
        }
        if !lower.starts_with("connection:") && !lower.starts_with("expect:") {
            head.push(line);
        }
    }
    let mut body = Vec::new();
    match (length, is_last) {
        (None, true) => from.read_to_end(&mut body)?,
        (length, _) => from.take(length.unwrap_or(0)).read_to_end(&mut body)?,
    };
    Ok((head, body))
}

fn send(to: &mut impl Write, head: &[String], body: &[u8]) -> io::Result<()> {
    let head = head.join("\r\n") + "\r\nConnection: close\r\n\r\n";
    to.write_all(&[head.as_bytes(), body].concat())
}

impl Link {
    fn carry(&self, mut client: TcpStream) -> io::Result<()> {
        let (head, body) = message(&mut BufReader::new(client.try_clone()?), false)?;
        let line = head[0].trim_end_matches(" HTTP/1.1").to_owned();
        let times = {
            let mut seen = self.seen.lock().unwrap();
            let times = seen.entry(line.clone()).or_default();
            *times += 1;
            *times - 1
        };
        let loss = (self.plan)(&line, times);
        if let Some(Loss::Answered(status, text)) = &loss {
            let head = [format!("HTTP/1.1 {status} No"), format!("Content-Length: {}", text.len())];
            return send(&mut client, &head, text.as_bytes());
        }
        let mut server = TcpStream::connect(self.server)?;
        send(&mut server, &head, &body)?;
        let (head, body) = message(&mut BufReader::new(server), true)?;
        match loss {
            Some(Loss::Closed) => client.shutdown(Shutdown::Both),
            Some(Loss::Reset) => Ok(rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO))?),
            Some(Loss::Cut) => send(&mut client, &head, &body[..body.len() / 2]),
            Some(Loss::Stalled(time)) => {
                thread::sleep(time);
                send(&mut client, &head, &body)
            }
            _ => send(&mut client, &head, &body),
        }
    }
}

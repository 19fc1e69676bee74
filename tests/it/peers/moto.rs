//! moto, which speaks S3: a server that lives as long as this process, and buckets in it. `REVFS_S3="HOST:PORT KEY SECRET"`
//! has all but what only moto says run against another server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use revfs::sync::{BucketPeer, BucketUrl};
use uuid::Uuid;

const VERSION: &str = "moto[server,s3]==5.2.1";

/// A server. It ends when this value is dropped, and when this process ends in whatever way: it reads a pipe from it.
pub struct Moto {
    pub address: SocketAddr,
    /// `None` where somebody else started it.
    server: Option<Child>,
}

impl Drop for Moto {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// The other server's address, key and secret.
fn other() -> Option<[String; 3]> {
    let said = std::env::var("REVFS_S3").ok()?;
    let words: Vec<String> = said.split_whitespace().map(str::to_owned).collect();
    Some(words.try_into().expect("REVFS_S3 is HOST:PORT KEY SECRET"))
}

/// The Python that has it: `$REVFS_MOTO`, or one below the build directory, installed on first use.
fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            if let Some(python) = std::env::var_os("REVFS_MOTO") {
                return python.into();
            }
            let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("moto");
            let python = dir.join("bin/python");
            if !dir.join("bin/moto_server").exists() {
                let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
                let made = done(Command::new("python3").args(["-m", "venv"]).arg(&dir))
                    && done(Command::new(&python).args(["-m", "pip", "install", "--quiet", VERSION]));
                assert!(made, "pip cannot install {VERSION}; python3 and its venv are needed");
            }
            python
        })
        .clone()
}

impl Moto {
    /// A server that asks for no credentials after so many requests; of all, where there are none.
    pub fn new(open: Option<usize>) -> Moto {
        let script = "
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
";
        let mut command = Command::new(python());
        command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(open) = open {
            command.env("INITIAL_NO_AUTH_ACTION_COUNT", open.to_string());
        }
        let mut server = command.spawn().expect("run moto");
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().expect("moto's port");
        Moto { address: ([127, 0, 0, 1], port).into(), server: Some(server) }
    }

    /// It is moto.
    pub fn is_own(&self) -> bool {
        self.server.is_some()
    }

    /// Makes a bucket, or leaves bytes under a key in one, whatever it is. moto takes that without a signature.
    pub fn put(&self, bucket: &str, key: &str, body: &[u8]) {
        if let (None, Some([address, access, secret])) = (&self.server, other()) {
            let script = "
import sys, boto3
address, key, secret, bucket, name = sys.argv[1:]
s3 = boto3.client('s3', endpoint_url='http://' + address, aws_access_key_id=key, aws_secret_access_key=secret, region_name='us-east-1')
s3.put_object(Bucket=bucket, Key=name, Body=sys.stdin.buffer.read()) if name else s3.create_bucket(Bucket=bucket)
";
            let mut boto = Command::new(python());
            boto.args(["-c", script, &address, &access, &secret, bucket, key])
                .stdin(Stdio::piped())
                .stderr(Stdio::null());
            let mut boto = boto.spawn().expect("run boto");
            boto.stdin.take().unwrap().write_all(body).unwrap();
            // A key that it takes from nobody does no harm.
            assert!(boto.wait().unwrap().success() || !key.is_empty(), "{bucket}");
            return;
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"/.-".contains(&b);
        let escaped =
            key.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") });
        let path = format!("/{bucket}/{}", escaped.collect::<String>());
        let mut stream = TcpStream::connect(self.address).unwrap();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.split(' ').nth(1) == Some("200"), "{path}: {answer}");
    }
}

/// A bucket of its own in the one server.
pub struct Bucket {
    pub name: String,
    pub server: &'static Moto,
}

impl Bucket {
    pub fn new() -> Bucket {
        static SERVER: OnceLock<Moto> = OnceLock::new();
        let server = SERVER.get_or_init(|| match other() {
            Some([address, ..]) => Moto { address: address.parse().unwrap(), server: None },
            None => Moto::new(None),
        });
        let name = format!("b-{}", Uuid::new_v4().simple());
        server.put(&name, "", b"");
        Bucket { name, server }
    }

    /// Leaves bytes under a key, whatever it is.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        self.server.put(&self.name, key, bytes);
    }

    pub fn peer(&self, prefix: &str) -> BucketPeer {
        peer(&format!("{}/{prefix}", self.name), self.server.address)
    }
}

/// What reaches a server at an address.
pub fn settings(address: SocketAddr) -> [(String, String); 5] {
    let [_, key, secret] = other().unwrap_or(["", "AKIDOFTHETEST", "hiddenfromall"].map(str::to_owned));
    [
        ("AWS_ENDPOINT_URL", format!("http://{address}").as_str()),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", &key),
        ("AWS_SECRET_ACCESS_KEY", &secret),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// A bucket, and what stands before its keys, at an address.
pub fn peer(name: &str, address: SocketAddr) -> BucketPeer {
    let url = BucketUrl::parse("s3", name.as_ref()).unwrap();
    BucketPeer::open_with(&url, settings(address)).unwrap()
}

//! `trailship healthcheck`: asks a running agent whether it is alive.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Failure, load_config_quietly, say};
use crate::cli::{Cli, EXIT_DONE, Healthcheck};

/// A container's health check is given about as long.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks `/livez`. No sink and no source has a part in the answer.
pub async fn healthcheck(cli: &Cli, options: &Healthcheck) -> Result<u8, Failure> {
    let address = match options.address {
        Some(address) => address,
        None => load_config_quietly(cli)?.agent.listen,
    };
    let address = reachable(address);
    let status = tokio::time::timeout(TIMEOUT, ask(address)).await;
    let status = status.with_context(|| format!("{address} does not answer"))??;
    if status != 200 {
        return Err(anyhow!("{address} says {status}: the agent stands still; restart it").into());
    }
    say("alive");
    Ok(EXIT_DONE)
}

async fn ask(address: SocketAddr) -> anyhow::Result<u16> {
    let mut stream =
        TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let request = format!("GET /livez HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer).await?;
    let text = String::from_utf8_lossy(&answer);
    let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.ok_or_else(|| anyhow!("{address} does not speak HTTP"))
}

/// An address that is listened on at all interfaces is asked on loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

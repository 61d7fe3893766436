//! The stand-in as a process of its own.

use std::io::{self, Write};
use std::net::SocketAddr;

use super::{Aws, AwsOptions};

/// Runs until it is told to end (SIGINT or SIGTERM): `--port N` (default: any free one), `--seed N`,
/// `--account ID`, `--region NAME`. Prints one line of JSON, `{"url"}`, when it listens.
///
/// # Errors
/// Where an argument is not understood, or the port cannot be bound.
pub async fn serve(args: impl Iterator<Item = String>) -> io::Result<()> {
    let aws = Aws::start(options(args)?).await?;
    let mut out = io::stdout();
    writeln!(out, "{}", serde_json::json!({ "url": aws.url() }))?;
    out.flush()?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        biased;
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    aws.shutdown().await;
    Ok(())
}

fn options(mut args: impl Iterator<Item = String>) -> io::Result<AwsOptions> {
    let mut options = AwsOptions::default();
    while let Some(name) = args.next() {
        let value = args.next().ok_or_else(|| invalid(format!("`{name}` needs a value")))?;
        let number =
            || value.parse::<u64>().map_err(|_| invalid(format!("`{name}`: `{value}` is not a number")));
        match name.as_str() {
            "--port" => {
                let port =
                    u16::try_from(number()?).map_err(|_| invalid(format!("`{value}` is not a port")))?;
                options.listen = SocketAddr::from(([127, 0, 0, 1], port));
            }
            "--seed" => options.seed = number()?,
            "--account" => options.account = value,
            "--region" => options.region = value,
            _ => {
                return Err(invalid(format!(
                    "unknown argument `{name}`: use --port, --seed, --account or --region"
                )));
            }
        }
    }
    Ok(options)
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::options;

    #[test]
    fn arguments_are_read_or_refused_by_name() {
        let read = |args: &str| options(args.split_whitespace().map(str::to_owned));
        let good = read("--port 4566 --seed 9 --account 1 --region eu-west-1");
        assert!(
            matches!(good, Ok(o) if o.listen.port() == 4566 && o.seed == 9 && o.account == "1" && o.region == "eu-west-1")
        );
        for (args, text) in [
            ("--port", "needs a value"),
            ("--port x", "not a number"),
            ("--port 70000", "not a port"),
            ("--x 1", "unknown"),
        ] {
            assert!(matches!(read(args), Err(e) if e.to_string().contains(text)), "{args}");
        }
    }
}

//! Signs a user in, shows what happens, and signs out at Ctrl-C.
//!
//! ```sh
//! cargo run -p rehome-client --example sign_in -- alice@example.test password
//! ```

use client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(user), Some(password)) = (arguments.next(), arguments.next()) else {
        return Err("usage: sign_in USER@DOMAIN PASSWORD [NAME-SERVER:PORT] [AUTHORITIES.pem]".into());
    };
    let mut builder = Client::builder(user, password).cache_file("endpoint-cache.json");
    if let Some(server) = arguments.next() {
        builder = builder.name_servers([server.parse()?]);
    }
    if let Some(pem) = arguments.next() {
        builder = builder.authorities(pem);
    }

    let client = builder.sign_in().await?;
    println!("signed in at {}", client.status());

    let mut events = client.events();
    loop {
        tokio::select! {
            Some(event) = events.next() => println!("{event}"),
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    let confirmed = client.sign_out().await;
    println!("signed out{}", if confirmed { "" } else { ", unconfirmed" });
    Ok(())
}

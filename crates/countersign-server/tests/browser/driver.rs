//! A browser, driven over the WebDriver protocol (W3C) by Chromium's own driver.
//!
//! The few commands that the tests need are sent here, because the usual client library brings crates under a licence
//! that this project does not take.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::server::{PATIENCE, eventually};

/// The key under which the protocol names elements.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// The program that drives browsers.
#[derive(Debug)]
pub(crate) struct Driver {
    _process: Child,
    url: String,
}

impl Driver {
    /// Starts the driver; `None` if there is none on this machine, which `./test` says.
    pub(crate) async fn start() -> Option<Self> {
        let program = std::env::var_os("TEST_CHROMEDRIVER").map(PathBuf::from).or_else(|| {
            let usual = PathBuf::from("/usr/bin/chromedriver");
            usual.exists().then_some(usual)
        });
        let Some(program) = program else {
            eprintln!(
                "left out: there is no chromedriver (on Debian: apt-get install chromium chromium-driver)"
            );
            return None;
        };
        let mut process = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let started = async {
            while let Some(line) = lines.next_line().await.unwrap() {
                if let Some((_, port)) = line.split_once("successfully on port ") {
                    return port.trim_end_matches('.').to_owned();
                }
            }
            panic!("the driver ended");
        };
        let port = timeout(PATIENCE, started).await.unwrap();
        // What else it writes is read, so that it never waits for a reader.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Some(Self { _process: process, url: format!("http://127.0.0.1:{port}") })
    }

    /// A browser with a profile of its own, which is gone with it.
    pub(crate) async fn browser(&self) -> Browser {
        self.start_browser(&[]).await
    }

    /// A browser with this profile, which stays when the browser is closed.
    pub(crate) async fn browser_of(&self, profile: &Path) -> Browser {
        self.start_browser(&[format!("--user-data-dir={}", profile.display())]).await
    }

    /// A browser for which these hosts, named with their ports, are at these ports of this machine. It takes any
    /// certificate.
    pub(crate) async fn browser_where(&self, hosts: &[(&str, u16)]) -> Browser {
        let rules: Vec<_> = hosts.iter().map(|(host, port)| format!("MAP {host} 127.0.0.1:{port}")).collect();
        let rules = format!("--host-resolver-rules={}", rules.join(","));
        self.start_browser(&[rules, "--ignore-certificate-errors".to_owned()]).await
    }

    async fn start_browser(&self, more: &[String]) -> Browser {
        let http = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--no-first-run",
            "--hide-scrollbars",
            "--window-size=1280,900",
            "--lang=en-US",
            "--password-store=basic",
            // An address with http stays one.
            "--disable-features=HttpsUpgrades,HttpsFirstBalancedModeAutoEnable",
        ];
        let arguments: Vec<_> = arguments.into_iter().chain(more.iter().map(String::as_str)).collect();
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            // Debian's blocks cookies of third parties, unlike others; an attack would look harmless for that alone.
            "goog:chromeOptions": { "args": arguments, "prefs": { "profile.cookie_controls_mode": 0 } },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let reply = http.post(format!("{}/session", self.url)).json(&wanted).send().await.unwrap();
        let reply: Value = reply.json().await.unwrap();
        let id = reply["value"]["sessionId"].as_str().unwrap_or_else(|| panic!("no browser: {reply}"));
        let browser = Browser { http, session: format!("{}/session/{id}", self.url) };
        browser.cdp("Network.enable", json!({})).await;
        browser
    }
}

/// A browser with one window; closed when dropped.
#[derive(Debug)]
pub(crate) struct Browser {
    http: reqwest::Client,
    session: String,
}

impl Browser {
    async fn command(&self, path: &str, body: Value) -> Result<Value, Value> {
        let reply = self.http.post(format!("{}/{path}", self.session)).json(&body).send().await.unwrap();
        let is_good = reply.status().is_success();
        let mut reply: Value = reply.json().await.unwrap();
        if is_good { Ok(reply["value"].take()) } else { Err(reply["value"].take()) }
    }

    async fn must(&self, path: &str, body: Value) -> Value {
        self.command(path, body).await.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    async fn ask(&self, path: &str) -> Value {
        let reply = self.http.get(format!("{}/{path}", self.session)).send().await.unwrap();
        let mut reply: Value = reply.json().await.unwrap();
        reply["value"].take()
    }

    /// A command of the browser's own protocol.
    pub(crate) async fn cdp(&self, command: &str, parameters: Value) -> Value {
        self.must("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await
    }

    pub(crate) async fn open(&self, url: &str) {
        self.must("url", json!({ "url": url })).await;
    }

    /// The window or tab that commands are for.
    pub(crate) async fn tab(&self) -> String {
        self.ask("window").await.as_str().unwrap().to_owned()
    }

    /// All windows and tabs, in no order.
    pub(crate) async fn tabs(&self) -> Vec<String> {
        let tabs = self.ask("window/handles").await;
        tabs.as_array().unwrap().iter().map(|tab| tab.as_str().unwrap().to_owned()).collect()
    }

    /// Closes the window or tab that commands are for. Another one is to be chosen before the next command.
    pub(crate) async fn close_tab(&self) {
        let closed = self.http.delete(format!("{}/window", self.session)).send().await.unwrap();
        assert!(closed.status().is_success(), "{closed:?}");
    }

    pub(crate) async fn go_to_tab(&self, tab: &str) {
        self.must("window", json!({ "handle": tab })).await;
    }

    pub(crate) async fn back(&self) {
        self.must("back", json!({})).await;
    }

    pub(crate) async fn url(&self) -> String {
        self.ask("url").await.as_str().unwrap().to_owned()
    }

    /// The path of the page, with its query.
    pub(crate) async fn path(&self) -> String {
        let url = url::Url::parse(&self.url().await).unwrap();
        url[url::Position::BeforePath..].to_owned()
    }

    pub(crate) async fn title(&self) -> String {
        self.ask("title").await.as_str().unwrap().to_owned()
    }

    /// The text that a reader sees.
    pub(crate) async fn text(&self) -> String {
        self.run("return document.body.innerText", json!([])).await.as_str().unwrap_or_default().to_owned()
    }

    /// Runs a script beside the page, whose policy does not hold for it.
    pub(crate) async fn run(&self, script: &str, arguments: Value) -> Value {
        self.must("execute/sync", json!({ "script": script, "args": arguments })).await
    }

    /// Runs a script that calls its last argument when it is done.
    pub(crate) async fn run_until_done(&self, script: &str, arguments: Value) -> Value {
        self.must("execute/async", json!({ "script": script, "args": arguments })).await
    }

    /// The elements of a selector.
    async fn all(&self, selector: &str) -> Vec<String> {
        let found = self.must("elements", json!({ "using": "css selector", "value": selector })).await;
        found.as_array().unwrap().iter().map(|one| one[ELEMENT].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) async fn has(&self, selector: &str) -> bool {
        !self.all(selector).await.is_empty()
    }

    async fn one(&self, selector: &str) -> String {
        let found = self.all(selector).await;
        let url = self.url().await;
        found.into_iter().next().unwrap_or_else(|| panic!("no {selector} at {url}"))
    }

    /// An attribute of the first such element.
    pub(crate) async fn attribute(&self, selector: &str, name: &str) -> String {
        let element = self.one(selector).await;
        let value = self.ask(&format!("element/{element}/attribute/{name}")).await;
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks, and waits until the page that follows is there.
    pub(crate) async fn click(&self, selector: &str) {
        self.run("window.wasHere = true", json!([])).await;
        self.tick(selector).await;
        self.arrived().await;
    }

    /// Waits until a page is there on which `window.wasHere` is not set.
    pub(crate) async fn arrived(&self) {
        // While pages change, a script may meet neither.
        let is_there = json!({
            "script": "return !window.wasHere && document.readyState === 'complete'",
            "args": [],
        });
        eventually("the next page", async || {
            self.command("execute/sync", is_there.clone()).await.is_ok_and(|there| there == true)
        })
        .await;
    }

    /// Clicks on what leads to no other page.
    pub(crate) async fn tick(&self, selector: &str) {
        let element = self.one(selector).await;
        self.must(&format!("element/{element}/click"), json!({})).await;
    }

    /// Types into a field, in place of what is in it.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.one(selector).await;
        self.must(&format!("element/{element}/clear"), json!({})).await;
        self.must(&format!("element/{element}/value"), json!({ "text": text })).await;
    }

    /// Presses keys wherever the focus is.
    pub(crate) async fn press(&self, keys: &str) {
        let actions: Vec<_> = keys
            .chars()
            .flat_map(|key| {
                let key = key.to_string();
                [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
            })
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] });
        self.must("actions", actions).await;
    }

    /// The cookies that the page that is open would be sent with.
    pub(crate) async fn cookies(&self) -> Vec<Value> {
        self.ask("cookie").await.as_array().unwrap().clone()
    }

    /// All cookies, whatever they belong to.
    pub(crate) async fn all_cookies(&self) -> Vec<Value> {
        self.cdp("Storage.getCookies", json!({})).await["cookies"].as_array().unwrap().clone()
    }

    /// The value of a cookie of the page that is open; empty if there is none.
    pub(crate) async fn cookie(&self, name: &str) -> String {
        let cookies = self.cookies().await;
        let found = cookies.iter().find(|cookie| cookie["name"] == name);
        found.and_then(|cookie| cookie["value"].as_str()).unwrap_or_default().to_owned()
    }

    /// What the browser has written to its console since the last call.
    pub(crate) async fn console(&self) -> Vec<String> {
        let lines = self.must("se/log", json!({ "type": "browser" })).await;
        let lines = lines.as_array().unwrap().iter();
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Runs no scripts of pages from now on.
    pub(crate) async fn without_scripts(self) -> Self {
        self.cdp("Emulation.setScriptExecutionDisabled", json!({ "value": true })).await;
        self
    }

    /// Prefers light or dark colours from now on.
    pub(crate) async fn colours(&self, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.cdp("Emulation.setEmulatedMedia", json!({ "features": features })).await;
    }

    /// Has a window of this size from now on.
    pub(crate) async fn size(&self, width: u32, height: u32, is_phone: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone });
        self.cdp("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// A picture of the whole page.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        let picture = self.cdp("Page.captureScreenshot", json!({ "captureBeyondViewport": true })).await;
        STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }
}

impl Browser {
    /// Closes the browser as its user does, and waits until it has written its profile.
    pub(crate) async fn close(self, profile: &Path) {
        let closed = self.http.delete(&self.session).send().await.unwrap();
        assert!(closed.status().is_success(), "{closed:?}");
        // A link that stands for as long as a browser uses the profile.
        let lock = profile.join("SingletonLock");
        eventually("the browser to end", async || lock.symlink_metadata().is_err()).await;
    }
}

/// Closes the browser, also where a test fails: the driver alone would leave it running.
impl Drop for Browser {
    fn drop(&mut self) {
        let Some((address, path)) =
            self.session.strip_prefix("http://").and_then(|rest| rest.split_once('/'))
        else {
            return;
        };
        if let Ok(mut stream) = std::net::TcpStream::connect(address) {
            let _ = stream.set_read_timeout(Some(Duration::from_secs(10)));
            let _ = write!(stream, "DELETE /{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
            let _ = stream.read(&mut [0; 512]);
        }
    }
}

//! What somebody can do to another one's account without its password or its mailbox, or with what is left of them: by
//! links and codes of mails, by registering first, and by asking for mails (SEC-084, SEC-129, SEC-131, SEC-138, SEC-142).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "the helpers of tests are tests too"
)]

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign_core::flow::{
    Arrival, AskError, CodeLoginError, Credentials, CredentialsError, EmailChange, EmailProof, Letter,
    LinkError, LoginError, Presentation, Profile, ProfileChange, ProfileError, RegisterError, Registration,
    SecretCode, SignedIn,
};
use countersign_core::model::{Device, EmailAddress, LinkToken, LoginLimits, Password, ThrottlePolicy, User};
use countersign_core::store::MemoryStore;
use countersign_jwt::UserId;
use countersign_testkit::{BedConfig, Instrumented, RecordedLetters, SeededRandom, TestBed};

const RIGHT: &str = TestBed::PASSWORD;
const NEW: &str = "battery horse correct staple";

/// Accounts that send mails.
struct Site {
    bed: TestBed,
    letters: RecordedLetters,
}

impl Site {
    async fn new() -> Self {
        Self::with(BedConfig::default()).await
    }

    async fn with(config: BedConfig) -> Self {
        let letters = RecordedLetters::default();
        let config = BedConfig { letters: Some(Arc::new(letters.clone())), ..config };
        Self { bed: TestBed::with(MemoryStore::new(), config).await, letters }
    }

    fn credentials(&self) -> Credentials {
        Credentials::of(&self.bed.accounts)
    }

    fn profile(&self) -> Profile {
        Profile::of(&self.bed.accounts)
    }

    async fn user(&self, id: &UserId) -> User {
        self.bed.stores.users().user(id).await.unwrap().unwrap()
    }

    /// The newest letter, once there are so many.
    async fn letter(&self, number: usize) -> Letter {
        self.letters.wait_for(number).await.pop().unwrap().letter
    }

    /// A user who has proven the address.
    async fn proven(&self, name: &str) -> SignedIn {
        let signed_in = self.bed.register(name).await.unwrap();
        let Letter::VerifyEmail { token, .. } = self.letter(1).await else { panic!() };
        self.profile().verify_email(&token).await.unwrap();
        signed_in
    }

    /// Asks for another address; returns the token of the mailed link.
    async fn asks_for(&self, user_id: &UserId, email: &str) -> LinkToken {
        let before = self.letters.all().len();
        let proof = EmailProof::Mail { session: None, client: None };
        let change = EmailChange { email: address(email), proof };
        let change = ProfileChange { email: Some(change), ..ProfileChange::default() };
        self.profile().change(user_id, change).await.unwrap();
        match self.letter(before + 1).await {
            Letter::VerifyEmail { token, .. } => token,
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a code; returns it and the token of the link beside it.
    async fn code(&self, email: &str) -> (SecretCode, LinkToken) {
        let before = self.letters.all().len();
        self.credentials().mail_code(&address(email), None).await.unwrap();
        match self.letter(before + 1).await {
            Letter::SignInCode { code, token, .. } => (code, token),
            other => panic!("{other:?}"),
        }
    }

    async fn by_code(&self, email: &str, code: &str, from: &str) -> Result<SignedIn, CodeLoginError> {
        let code = SecretCode::parse(code).unwrap();
        self.credentials().login_with_code(&address(email), &code, arrival(from)).await
    }
}

fn address(email: &str) -> EmailAddress {
    EmailAddress::parse(email).unwrap()
}

fn arrival(from: &str) -> Arrival {
    Arrival::new(Presentation::Explicit, Device::new(None, Some(from.parse().unwrap())))
}

fn password(text: &str) -> Password {
    Password::new_for_registration(text.to_owned()).unwrap()
}

#[tokio::test]
async fn sec_142_a_change_of_address_is_called_off_by_a_new_password() {
    for by_reset in [false, true] {
        let site = Site::new().await;
        let ada = site.proven("ada").await.user.id;
        // Somebody who knows the password wants the account to have another address.
        let link = site.asks_for(&ada, "thief@example.org").await;
        if by_reset {
            let before = site.letters.all().len();
            site.credentials().forgot(&address("ada@example.org"), None).await.unwrap();
            let Letter::ResetPassword { token, .. } = site.letter(before + 1).await else { panic!() };
            site.credentials().reset(&token, password(NEW)).await.unwrap();
        } else {
            let credentials = site.credentials();
            let arrival = arrival("192.0.2.1");
            credentials.change_password(&ada, password(RIGHT), password(NEW), arrival).await.unwrap();
        }
        let verified = site.profile().verify_email(&link).await;
        assert!(matches!(verified, Err(LinkError::Invalid)), "{by_reset}: {verified:?}");
        assert_eq!(site.user(&ada).await.email, Some(address("ada@example.org")));
    }
}

#[tokio::test]
async fn sec_142_a_change_of_address_is_called_off_by_an_operator() {
    let site = Site::new().await;
    let ada = site.proven("ada").await.user.id;
    let link = site.asks_for(&ada, "thief@example.org").await;
    let change = EmailChange { email: address("ada@example.net"), proof: EmailProof::Operator };
    let change = ProfileChange { email: Some(change), ..ProfileChange::default() };
    site.profile().change(&ada, change).await.unwrap();
    assert!(matches!(site.profile().verify_email(&link).await, Err(LinkError::Invalid)));

    let link = site.asks_for(&ada, "thief@example.org").await;
    site.bed.accounts.disable(&ada).await.unwrap();
    assert!(matches!(site.profile().verify_email(&link).await, Err(LinkError::Invalid)));
    assert_eq!(site.user(&ada).await.email, Some(address("ada@example.net")));
}

#[tokio::test]
async fn sec_142_the_newest_change_of_address_counts_and_the_own_address_is_proven_under_any_password() {
    let site = Site::new().await;
    let ada = site.bed.register("ada").await.unwrap().user.id;
    let Letter::VerifyEmail { token, .. } = site.letter(1).await else { panic!() };
    let arrival = arrival("192.0.2.1");
    site.credentials().change_password(&ada, password(RIGHT), password(NEW), arrival).await.unwrap();
    site.profile().verify_email(&token).await.unwrap();
    assert!(site.user(&ada).await.has_verified_email());

    let first = site.asks_for(&ada, "first@example.org").await;
    let second = site.asks_for(&ada, "second@example.org").await;
    assert!(site.profile().verify_email(&first).await.is_err());
    site.profile().verify_email(&second).await.unwrap();
    assert_eq!(site.user(&ada).await.email, Some(address("second@example.org")));
}

#[tokio::test]
async fn who_registers_with_an_address_of_somebody_else_loses_the_account_to_who_proves_it() {
    for by_link in [false, true] {
        let site = Site::new().await;
        let thief = site.bed.register("ada").await.unwrap();
        site.letter(1).await;
        let (code, token) = site.code("ada@example.org").await;
        let owner = match by_link {
            true => site.credentials().login_with_link(&token, arrival("192.0.2.2")).await.unwrap(),
            false => site.by_code("ada@example.org", code.expose(), "192.0.2.2").await.unwrap(),
        };
        assert!(owner.user.has_verified_email() && owner.user.password_hash.is_none());
        assert!(site.bed.authenticate(&owner.pair.access_token).await.is_ok());
        assert!(site.bed.authenticate(&thief.pair.access_token).await.is_err(), "the session has ended");
        let refreshed = site.bed.refresh(&thief.pair.refresh_token, Device::default()).await;
        assert!(refreshed.is_err());
        let known = Arrival { known_device: thief.device_token, ..arrival("192.0.2.1") };
        let login = site.bed.login_as("ada", RIGHT, known).await;
        assert!(matches!(login, Err(LoginError::InvalidCredentials)), "{login:?}");
    }
}

#[tokio::test]
async fn a_code_of_a_proven_address_leaves_password_and_sessions_as_they_are() {
    let site = Site::new().await;
    let ada = site.proven("ada").await;
    let (code, _) = site.code("ada@example.org").await;
    site.by_code("ada@example.org", code.expose(), "192.0.2.2").await.unwrap();
    assert!(site.bed.authenticate(&ada.pair.access_token).await.is_ok());
    site.bed.login("ada", RIGHT).await.unwrap();
}

#[tokio::test]
async fn sec_138_wrong_links_use_up_nobodys_link() {
    let site = Site::new().await;
    let ada = site.bed.register("ada").await.unwrap().user.id;
    let Letter::VerifyEmail { token: verify, .. } = site.letter(1).await else { panic!() };
    let (_, sign_in) = site.code("ada@example.org").await;
    site.credentials().forgot(&address("ada@example.org"), None).await.unwrap();
    let Letter::ResetPassword { token: reset, .. } = site.letter(3).await else { panic!() };
    for seed in 0..20 {
        let wrong = LinkToken::new(ada.clone(), &SeededRandom::new(seed)).unwrap();
        assert!(site.profile().verify_email(&wrong).await.is_err());
        assert!(site.credentials().reset(&wrong, password(NEW)).await.is_err());
        assert!(site.credentials().login_with_link(&wrong, arrival("192.0.2.9")).await.is_err());
    }
    site.profile().verify_email(&verify).await.unwrap();
    site.credentials().login_with_link(&sign_in, arrival("192.0.2.1")).await.unwrap();
    site.credentials().reset(&reset, password(NEW)).await.unwrap();
}

#[tokio::test]
async fn sec_138_guesses_use_up_the_code_and_not_the_link_beside_it() {
    let site = Site::new().await;
    site.proven("ada").await;
    let (code, token) = site.code("ada@example.org").await;
    let wrong = if code.expose() == "000000" { "000001" } else { "000000" };
    for _ in 0..5 {
        assert!(site.by_code("ada@example.org", wrong, "192.0.2.9").await.is_err());
    }
    let late = site.by_code("ada@example.org", code.expose(), "192.0.2.1").await;
    assert!(matches!(late, Err(CodeLoginError::InvalidCredentials)), "five tries are over: {late:?}");
    site.credentials().login_with_link(&token, arrival("192.0.2.1")).await.unwrap();
    let again = site.credentials().login_with_link(&token, arrival("192.0.2.1")).await;
    assert!(matches!(again, Err(CodeLoginError::InvalidCredentials)), "it is good for one use");
}

#[tokio::test]
async fn a_used_code_takes_the_link_beside_it_along() {
    let site = Site::new().await;
    site.proven("ada").await;
    let (code, token) = site.code("ada@example.org").await;
    site.by_code("ada@example.org", code.expose(), "192.0.2.1").await.unwrap();
    assert!(site.credentials().login_with_link(&token, arrival("192.0.2.1")).await.is_err());
    let (code, token) = site.code("ada@example.org").await;
    site.credentials().login_with_link(&token, arrival("192.0.2.1")).await.unwrap();
    assert!(site.by_code("ada@example.org", code.expose(), "192.0.2.1").await.is_err());
}

#[tokio::test]
async fn sec_129_codes_guessed_for_many_accounts_from_one_address_are_throttled() {
    let limits = LoginLimits { address_failures: 6, ..LoginLimits::default() };
    let site = Site::with(BedConfig { limits, ..BedConfig::default() }).await;
    site.proven("ada").await;
    for number in 0..6 {
        // As many accounts as guesses, known or not.
        let guess = site.by_code(&format!("user{number}@example.org"), "123456", "192.0.2.9").await;
        assert!(matches!(guess, Err(CodeLoginError::InvalidCredentials)), "{number}: {guess:?}");
    }
    let guess = site.by_code("ada@example.org", "123456", "192.0.2.9").await;
    assert!(matches!(guess, Err(CodeLoginError::TooManyAttempts { .. })), "{guess:?}");
    let (code, _) = site.code("ada@example.org").await;
    site.by_code("ada@example.org", code.expose(), "192.0.2.1").await.expect("from elsewhere it goes on");
}

#[tokio::test]
async fn sec_131_a_guess_at_a_code_costs_the_store_the_same_whoever_has_an_account() {
    let watched = Instrumented::new(MemoryStore::new());
    let letters = RecordedLetters::default();
    let config = BedConfig { letters: Some(Arc::new(letters.clone())), ..BedConfig::default() };
    let bed = TestBed::with(watched.stores(), config).await;
    bed.register("ada").await.unwrap();
    let disabled = bed.register("eve").await.unwrap().user.id;
    bed.accounts.disable(&disabled).await.unwrap();
    letters.wait_for(2).await;
    let credentials = Credentials::of(&bed.accounts);
    let guess = async |name: &str| {
        let email = address(&format!("{name}@example.org"));
        let wrong = SecretCode::parse("123456").unwrap();
        watched.reset_calls();
        let answer = credentials.login_with_code(&email, &wrong, arrival("192.0.2.1")).await;
        assert!(matches!(answer, Err(CodeLoginError::InvalidCredentials)), "{name}: {answer:?}");
        ["user_by_name", "epoch", "try_secret", "begin_attempt", "finish_attempt"]
            .map(|call| watched.calls(call))
            .into_iter()
            .chain([watched.total_calls()])
            .collect::<Vec<_>>()
    };
    let mut costs = Vec::new();
    for has_code in [false, true] {
        for name in ["ada", "eve", "nobody"] {
            if has_code {
                let email = address(&format!("{name}@example.org"));
                credentials.mail_code(&email, None).await.unwrap();
                for _ in 0..50 {
                    tokio::task::yield_now().await;
                }
            }
            // Five guesses use the code up, whoever has it.
            for _ in 0..6 {
                costs.push(guess(name).await);
            }
        }
    }
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{costs:?}");
    assert_eq!(letters.all().len(), 3, "one code was mailed");
}

#[tokio::test]
async fn sec_131_nobody_keeps_an_owner_from_being_mailed() {
    let site = Site::new().await;
    site.proven("ada").await;
    let ask = async |from: &str| {
        let client: IpAddr = from.parse().unwrap();
        site.credentials().forgot(&address("ada@example.org"), Some(client)).await.unwrap();
    };
    let resets = || {
        let is_reset = |letter: &&_| matches!(letter, Letter::ResetPassword { .. });
        site.letters.all().iter().map(|addressed| &addressed.letter).filter(is_reset).count()
    };
    // A day long somebody with many addresses asks for mails once a minute.
    for minute in 0..1_440 {
        ask(&format!("198.51.{}.{}", minute / 250, minute % 250)).await;
        tokio::task::yield_now().await;
        site.bed.clock.advance(Duration::from_secs(60));
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let mailed = resets();
    assert!((90..=110).contains(&mailed), "one in fifteen minutes: {mailed}");
    site.bed.clock.advance(Duration::from_secs(900));
    ask("192.0.2.1").await;
    site.letters.wait_for(1 + mailed + 1).await;
    assert_eq!(resets(), mailed + 1, "the owner asks, a quarter of an hour later at most");
}

#[tokio::test]
async fn sec_131_one_client_has_few_mails_sent_to_an_address() {
    let site = Site::new().await;
    site.proven("ada").await;
    for _ in 0..1_440 {
        let client = Some("192.0.2.9".parse().unwrap());
        site.credentials().forgot(&address("ada@example.org"), client).await.unwrap();
        tokio::task::yield_now().await;
        site.bed.clock.advance(Duration::from_secs(60));
    }
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
    let resets = site.letters.all().len() - 1;
    assert!((3..=14).contains(&resets), "{resets}");
}

#[tokio::test]
async fn one_client_has_few_mails_sent_to_made_up_addresses() {
    let limits = LoginLimits { address_mails: 3, ..LoginLimits::default() };
    let site = Site::with(BedConfig { limits, ..BedConfig::default() }).await;
    let ask = async |number: u32, from: &str| {
        let email = address(&format!("user{number}@example.org"));
        let client = Some(from.parse().unwrap());
        match number % 3 {
            0 => site.credentials().forgot(&email, client).await,
            1 => site.credentials().mail_code(&email, client).await,
            _ => site.profile().resend_verification_to(&email, client).await,
        }
    };
    for number in 0..3 {
        ask(number, "2001:db8::1").await.unwrap();
    }
    for number in 3..6 {
        let refused = ask(number, "2001:db8::2").await;
        assert!(matches!(refused, Err(AskError::TooManyAttempts { .. })), "{refused:?}");
    }
    ask(6, "192.0.2.1").await.expect("others go on");
}

#[tokio::test]
async fn a_user_has_few_mails_sent_to_made_up_addresses() {
    let site = Site::new().await;
    let ada = site.proven("ada").await.user.id;
    for number in 0..5 {
        site.asks_for(&ada, &format!("other{number}@example.org")).await;
    }
    let proof = EmailProof::Mail { session: None, client: None };
    let change = EmailChange { email: address("more@example.org"), proof };
    let change = ProfileChange { email: Some(change), ..ProfileChange::default() };
    let refused = site.profile().change(&ada, change).await;
    let Err(ProfileError::TooManyAttempts { retry_after }) = refused else { panic!("{refused:?}") };
    assert_eq!(retry_after, Duration::from_secs(60));
    site.bed.clock.advance(retry_after);
    site.asks_for(&ada, "more@example.org").await;
}

#[tokio::test]
async fn who_changes_a_password_again_and_again_fills_no_mailbox() {
    let site = Site::new().await;
    // The address may be anybody's: nobody has proven it.
    let ada = site.bed.register("ada").await.unwrap().user.id;
    for number in 0..10 {
        let (current, new) = if number % 2 == 0 { (RIGHT, NEW) } else { (NEW, RIGHT) };
        let (current, new) = (password(current), password(new));
        site.credentials().change_password(&ada, current, new, arrival("192.0.2.1")).await.unwrap();
    }
    let is_told = |letter: &&_| matches!(letter, Letter::PasswordChanged { .. });
    let told = site.letters.all().iter().map(|addressed| &addressed.letter).filter(is_told).count();
    assert_eq!(told, 5);
    let (current, new) = (password(RIGHT), password(NEW));
    let more = site.credentials().change_password(&ada, current, new, arrival("192.0.2.1")).await;
    assert!(matches!(more, Err(CredentialsError::TooManyAttempts { .. })), "{more:?}");
    site.bed.clock.advance(Duration::from_secs(900));
    let (current, new) = (password(RIGHT), password(NEW));
    site.credentials().change_password(&ada, current, new, arrival("192.0.2.1")).await.unwrap();
    assert!(matches!(site.letters.all().last().unwrap().letter, Letter::PasswordChanged { .. }));
}

#[tokio::test]
async fn an_address_registers_a_bounded_number_of_accounts_within_an_hour() {
    let limits = LoginLimits { address_registrations: 3, ..LoginLimits::default() };
    let site = Site::with(BedConfig { limits, ..BedConfig::default() }).await;
    let register = async |number: u32, from: &str| {
        let registration = Registration {
            email: Some(address(&format!("user{number}@example.org"))),
            username: None,
            password: password(RIGHT),
            language: None,
        };
        match number % 2 {
            0 => site.bed.accounts.register(registration, arrival(from)).await.map(|_| ()),
            _ => site.bed.accounts.register_unseen(registration, arrival(from).device).await,
        }
    };
    for number in 0..3 {
        register(number, "2001:db8::1").await.unwrap();
    }
    for number in 3..5 {
        let refused = register(number, "2001:db8::2").await;
        assert!(matches!(refused, Err(RegisterError::TooManyAttempts { .. })), "{refused:?}");
    }
    register(5, "2001:db8:0:1::1").await.expect("others go on");
    for number in 6..12 {
        register(number, "127.0.0.1")
            .await
            .expect("behind a proxy that is not set up, all have such an address");
    }
    site.bed.clock.advance(LoginLimits::WINDOW);
    register(12, "2001:db8::1").await.expect("an hour later");
}

#[test]
fn the_limits_on_registrations_have_short_pauses() {
    let ThrottlePolicy { limit, cap, .. } = LoginLimits::default().registrations();
    assert_eq!((limit, cap), (100, Duration::from_secs(60)));
}

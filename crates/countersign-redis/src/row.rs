//! A session's row as text. The scripts know its form too (`lua/row.lua`).
//!
//! The row is `generation issued_at acknowledged_at heals healed_run last_seen_at idle_until ended epoch absolute_until
//! created_at seed ip agent`, separated by single spaces. The agent comes last, because it may hold any character. A
//! value that is absent is `-`, and an agent that is present starts with `+`.

use std::net::IpAddr;

use countersign_core::model::{AgentHash, Device, EndReason, Ended, Session, SessionSeed};
use countersign_jwt::{Epoch, Generation, SessionId, UserId};

use crate::failure::Failure;
use crate::layout::digits;
use crate::text::{number, optional_time, parsed, time, time_text};

const WHAT: &str = "session";
const FIELDS: usize = 14;

/// The session as text.
pub(crate) fn write(session: &Session) -> String {
    format!(
        "{} {} {} {} {} {} {} {} {} {} {} {} {}",
        session.generation.as_u32(),
        session.issued_at.as_millis(),
        time_text(session.acknowledged_at),
        session.heals,
        session.healed_run,
        session.last_seen_at.as_millis(),
        session.idle_until.as_millis(),
        session.ended.map_or_else(|| "-".to_owned(), mark),
        digits(session.epoch),
        session.absolute_until.as_millis(),
        session.created_at.as_millis(),
        seed_text(&session.seed),
        device(&session.device),
    )
}

/// The way a session ended, as the row holds it.
pub(crate) fn mark(ended: Ended) -> String {
    format!("{}:{}", ended.at.as_millis(), ended.reason.name())
}

/// The device, the row's last two fields. The hash of its agent follows the address, after a comma.
pub(crate) fn device(device: &Device) -> String {
    let mut ip = device.ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
    if let Some(hash) = device.agent_hash {
        ip = format!("{ip},{hash}");
    }
    match &device.user_agent {
        Some(agent) => format!("{ip} +{agent}"),
        None => format!("{ip} -"),
    }
}

/// The session that a text stands for.
pub(crate) fn read(user_id: &UserId, id: SessionId, text: &str) -> Result<Session, Failure> {
    let fields: Vec<_> = text.splitn(FIELDS, ' ').collect();
    let Ok(
        [
            generation,
            issued_at,
            acknowledged_at,
            heals,
            healed_run,
            last_seen_at,
            idle_until,
            ended,
            epoch,
            absolute_until,
            created_at,
            seed,
            ip,
            agent,
        ],
    ) = <[&str; FIELDS]>::try_from(fields)
    else {
        return Err(Failure::Malformed(WHAT));
    };
    let (ip, agent_hash) = ip.split_once(',').map_or((ip, None), |(ip, hash)| (ip, Some(hash)));
    let agent_hash = agent_hash.map(|hash| parsed(WHAT, hash.parse::<AgentHash>())).transpose()?;
    Ok(Session {
        user_id: user_id.clone(),
        id,
        epoch: Epoch::new(number(WHAT, epoch)?),
        generation: Generation::new(number(WHAT, generation)?),
        issued_at: time(WHAT, issued_at)?,
        acknowledged_at: optional_time(WHAT, acknowledged_at)?,
        heals: number(WHAT, heals)?,
        healed_run: number(WHAT, healed_run)?,
        seed: read_seed(seed)?,
        created_at: time(WHAT, created_at)?,
        last_seen_at: time(WHAT, last_seen_at)?,
        idle_until: time(WHAT, idle_until)?,
        absolute_until: time(WHAT, absolute_until)?,
        device: Device { user_agent: read_agent(agent)?, agent_hash, ip: read_ip(ip)? },
        ended: read_mark(ended)?,
    })
}

fn read_mark(text: &str) -> Result<Option<Ended>, Failure> {
    if text == "-" {
        return Ok(None);
    }
    let (at, reason) = text.split_once(':').ok_or(Failure::Malformed(WHAT))?;
    let reason = EndReason::from_name(reason).ok_or(Failure::Malformed(WHAT))?;
    Ok(Some(Ended { at: time(WHAT, at)?, reason }))
}

fn read_ip(text: &str) -> Result<Option<IpAddr>, Failure> {
    if text == "-" { Ok(None) } else { parsed(WHAT, text.parse()).map(Some) }
}

fn read_agent(text: &str) -> Result<Option<String>, Failure> {
    match text.strip_prefix('+') {
        Some(agent) => Ok(Some(agent.to_owned())),
        None if text == "-" => Ok(None),
        None => Err(Failure::Malformed(WHAT)),
    }
}

/// The seed as a number of 256 bits, most significant byte first, in hexadecimal digits.
fn seed_text(seed: &SessionSeed) -> String {
    let (high, low) = seed.as_bytes().split_at(16);
    let half = |bytes: &[u8]| bytes.try_into().map(u128::from_be_bytes).unwrap_or_default();
    format!("{:032x}{:032x}", half(high), half(low))
}

fn read_seed(text: &str) -> Result<SessionSeed, Failure> {
    let malformed = || Failure::Malformed(WHAT);
    let (high, low) = text.split_at_checked(32).filter(|_| text.len() == 64).ok_or_else(malformed)?;
    let half = |digits: &str| parsed(WHAT, u128::from_str_radix(digits, 16)).map(u128::to_be_bytes);
    let bytes = [half(high)?, half(low)?].concat();
    parsed(WHAT, bytes.try_into()).map(SessionSeed::new)
}

#[cfg(test)]
mod tests {
    use countersign_jwt::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn sessions() -> Vec<Session> {
        let plain = Session {
            user_id: UserId::new("ada").unwrap(),
            id: SessionId::new(Uuid::from_u128(7)),
            epoch: Epoch::FIRST,
            generation: Generation::FIRST,
            issued_at: Timestamp::MIN,
            acknowledged_at: None,
            heals: 0,
            healed_run: 0,
            seed: SessionSeed::new([0; 32]),
            created_at: Timestamp::MIN,
            last_seen_at: Timestamp::MIN,
            idle_until: Timestamp::MIN,
            absolute_until: Timestamp::MIN,
            device: Device::default(),
            ended: None,
        };
        let full = Session {
            epoch: Epoch::new(u64::MAX),
            generation: Generation::new(u32::MAX),
            issued_at: Timestamp::MAX,
            acknowledged_at: Some(Timestamp::MAX),
            heals: u8::MAX,
            healed_run: u8::MAX,
            seed: SessionSeed::new(std::array::from_fn(|at| 0xff - u8::try_from(at).unwrap())),
            created_at: Timestamp::MAX,
            last_seen_at: Timestamp::MAX,
            idle_until: Timestamp::MAX,
            absolute_until: Timestamp::MAX,
            device: Device { user_agent: None, agent_hash: None, ip: "2001:db8::1".parse().ok() },
            ..plain.clone()
        };
        let mut sessions = vec![plain.clone(), full];
        for agent in ["", "-", "+", "a  b ", " ", "\0\n", "😀"] {
            let device = Device { user_agent: Some(agent.to_owned()), ..Device::new(Some(agent), None) };
            sessions.push(Session { device, ..plain.clone() });
        }
        for reason in EndReason::ALL {
            sessions.push(Session { ended: Some(Ended { at: Timestamp::MIN, reason }), ..plain.clone() });
        }
        sessions
    }

    #[test]
    fn a_row_reads_back_as_written() {
        for session in sessions() {
            assert_eq!(read(&session.user_id, session.id, &write(&session)).unwrap(), session);
        }
    }

    #[test]
    fn what_this_program_never_writes_is_an_error() {
        for session in sessions().iter().take(2) {
            let text = write(session);
            for at in 0..FIELDS {
                let mut fields: Vec<_> = text.splitn(FIELDS, ' ').collect();
                fields[at] = "x";
                assert!(read(&session.user_id, session.id, &fields.join(" ")).is_err(), "field {at}");
            }
            for end in 0..text.rfind(' ').unwrap() {
                assert!(read(&session.user_id, session.id, &text[..end]).is_err(), "{end}");
            }
        }
    }
}

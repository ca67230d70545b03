import { Account, Refused } from "./client.js";

declare const process: { argv: string[] };

const [, , server = "http://127.0.0.1:8080"] = process.argv;
const email = `ada-${Date.now()}@example.com`;
const password = "correct horse battery staple";

const account = new Account(server);
await account.register(email, password);
console.log("registered:", (await account.me()).email === email);
console.log("refreshed:", await account.refresh());
console.log("still signed in:", (await account.me()).email === email);
await account.logOut();
console.log("signed out:", await account.me().catch((error: unknown) => error instanceof Refused && error.code));
console.log("wrong password:", await account.logIn(email, "a guess").catch((error: unknown) => error instanceof Refused && error.code));
console.log("signed in:", (await account.logIn(email, password)).email === email);

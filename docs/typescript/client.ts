import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Pair = components["schemas"]["Pair"];
export type User = components["schemas"]["User"];

/** A refusal. Programs tell refusals apart by the code, because sentences may change. */
export class Refused<Code extends string = string> extends Error {
  constructor(readonly code: Code, description: string) {
    super(description);
  }
}

/** An account on a Countersign server, and the session that is signed in to it. */
export class Account {
  readonly #http;
  #pair: Pair | undefined;
  #refreshing: Promise<boolean> | undefined;

  constructor(baseUrl: string) {
    this.#http = createClient<paths>({ baseUrl });
  }

  async register(email: string, password: string): Promise<void> {
    const { data, error } = await this.#http.POST("/v1/auth/register", { body: { email, password } });
    if (error) throw new Refused(error.error, error.error_description);
    // Where addresses are verified first, there is no pair yet.
    this.#pair = data;
  }

  async logIn(email: string, password: string): Promise<User> {
    const { data, error } = await this.#http.POST("/v1/auth/login", { body: { email, password } });
    if (error) throw new Refused(error.error, error.error_description);
    this.#pair = data;
    return data.user;
  }

  async me(): Promise<User> {
    const { data, error } = await this.#signedIn((headers) => this.#http.GET("/v1/auth/me", { headers }));
    if (error) throw new Refused(error.error, error.error_description);
    return data;
  }

  async logOut(): Promise<void> {
    const refresh_token = this.#pair?.refresh_token;
    this.#pair = undefined;
    const { error } = await this.#http.POST("/v1/auth/logout", { body: { refresh_token } });
    if (error) throw new Refused(error.error, error.error_description);
  }

  /** Exchanges the refresh token. Callers at the same time share one exchange. */
  refresh(): Promise<boolean> {
    this.#refreshing ??= this.#exchange().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #exchange(): Promise<boolean> {
    const refresh_token = this.#pair?.refresh_token;
    if (!refresh_token) return false;
    const { data, error, response } = await this.#http.POST("/v1/auth/refresh", { body: { refresh_token } });
    if (data) this.#pair = data;
    // Only a 401 means that the user must sign in again. After anything else the same token may be tried again.
    if (response.status === 401) this.#pair = undefined;
    else if (error) throw new Refused(error.error, error.error_description);
    return data !== undefined;
  }

  /** Sends a request with the access token and, if that has expired, once more with a new one. */
  async #signedIn<Answer extends { response: Response }>(
    send: (headers: Record<string, string>) => Promise<Answer>,
  ): Promise<Answer> {
    const headers = (): Record<string, string> =>
      this.#pair?.access_token ? { authorization: `Bearer ${this.#pair.access_token}` } : {};
    const answer = await send(headers());
    return answer.response.status === 401 && (await this.refresh()) ? send(headers()) : answer;
  }
}

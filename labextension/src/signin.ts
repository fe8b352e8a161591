/**
 * Signing in to the cloud as this page sees it: who is signed in, and the attempt that was begun here.
 *
 * The code of an attempt is in the answer to the request that asked for it and nowhere else, so it lives here, in memory,
 * for as long as the attempt is open. A pasted token is not even that: it goes into one request's body.
 */
import { ServerConnection } from '@jupyterlab/services';
import { TranslationBundle } from '@jupyterlab/translation';

import { IProblem, ISignIn, ISignInRequest } from './api';
import { asProblem, request, RequestError } from './request';
import { ISignInModel, SignInView } from './tokens';

/** Codes of refusals that a sign-in may help with: ours, Entra's, and those of Azure's 401. */
const SIGN_IN_HELPS =
  /^(SignInRequired|SignInExpired|ClaimsChallenge|AADSTS\d+|(Invalid|Expired)AuthenticationToken\w*|AuthenticationFailed)$/;

export function isSignInProblem(problem: IProblem): boolean {
  return SIGN_IN_HELPS.test(problem.code);
}

export class SignInModel implements ISignInModel {
  constructor(private readonly _options: SignInModel.IOptions) {}

  get status(): ISignIn | null {
    return this._status;
  }

  get attempt(): ISignIn | null {
    return this._attempt;
  }

  get isAsking(): boolean {
    return this._isAsking;
  }

  get isChoosing(): boolean {
    return this._isChoosing;
  }

  get error(): IProblem | null {
    return this._error;
  }

  /** What the server says, for the list of the model: who is signed in, and how the attempt of this page stands. */
  async fetch(): Promise<ISignIn> {
    const attempt = this._attempt;
    if (attempt) {
      // First, so that who is signed in is no older than how the attempt stands.
      const own = await this._look(attempt);
      // The person may have cancelled it, or asked for another code, in between.
      if (this._attempt === attempt) {
        this._takeAttempt(own);
      }
    }
    return this._request<ISignIn>('signin');
  }

  /** The answer of `fetch`, once the list has taken it. */
  accept(status: ISignIn): void {
    this._status = status;
  }

  async begin(options: { tenant?: string; keep?: boolean } = {}): Promise<void> {
    const body: ISignInRequest = {};
    if (options.tenant) {
      body.tenant = options.tenant;
    }
    if (options.keep) {
      body.keep = true;
    }
    await this._ask(body);
  }

  async paste(token: string): Promise<void> {
    await this._ask({ token });
  }

  async cancel(): Promise<void> {
    const attempt = this._attempt;
    this._asked += 1;
    this._rest();
    if (attempt) {
      await this._end(attempt);
    }
  }

  async signOut(): Promise<void> {
    try {
      await this._request<void>('signin', { method: 'DELETE' });
      this._rest();
    } catch (reason) {
      this._error = asProblem(reason);
      this._options.changed();
    }
    this._options.fetchAgain();
  }

  choose(): void {
    this._isChoosing = true;
    this._error = null;
    this._options.changed();
  }

  dismiss(): void {
    this._rest();
  }

  /** Ask for a code or with a token. A later question or a cancel overtakes it. */
  private async _ask(body: ISignInRequest): Promise<void> {
    const asked = ++this._asked;
    this._isAsking = true;
    this._attempt = null;
    this._error = null;
    this._options.changed();
    try {
      const answer = await this._request<ISignIn>('signin', {
        method: 'POST',
        body: JSON.stringify(body)
      });
      if (asked !== this._asked) {
        if (answer.state === 'prompting') {
          await this._end(answer);
        }
        return;
      }
      this._isAsking = false;
      this._takeAttempt(answer);
    } catch (reason) {
      if (asked === this._asked) {
        this._isAsking = false;
        this._error = asProblem(reason);
      }
    }
    this._options.changed();
    this._options.fetchAgain();
  }

  /** How the attempt stands by now. Only its first answer had the code. */
  private _takeAttempt(answer: ISignIn): void {
    switch (answer.state) {
      case 'prompting':
        this._attempt = answer.code ? answer : this._attempt;
        this._isChoosing = false;
        return;
      case 'failed':
        this._attempt = null;
        this._error = answer.error;
        return;
      case 'signed_in':
        this._status = answer;
        this._attempt = null;
        this._isChoosing = false;
        return;
      default:
        // Somebody cancelled it, or signed out.
        this._attempt = null;
        this._isChoosing = false;
    }
  }

  private async _look(attempt: ISignIn): Promise<ISignIn> {
    try {
      return await this._request<ISignIn>(`signin?id=${encodeURIComponent(attempt.id ?? '')}`);
    } catch (reason) {
      // A server that was restarted in between knows nothing of it; whether one answers at all, the other request says.
      const isForgotten = reason instanceof RequestError && reason.status === 404;
      return isForgotten ? { ...attempt, state: 'failed', error: asProblem(reason) } : attempt;
    }
  }

  /** Have the server forget an attempt. Where that fails there is nothing to do: a code ends by itself. */
  private async _end(attempt: ISignIn): Promise<void> {
    const path = `signin?id=${encodeURIComponent(attempt.id ?? '')}`;
    await this._request<void>(path, { method: 'DELETE' }).catch(() => undefined);
    this._options.fetchAgain();
  }

  private _rest(): void {
    this._isAsking = false;
    this._isChoosing = false;
    this._attempt = null;
    this._error = null;
    this._options.changed();
  }

  private _request<T>(path: string, init?: RequestInit): Promise<T> {
    return request<T>(path, this._options.serverSettings, this._options.trans, init);
  }

  private _status: ISignIn | null = null;
  private _attempt: ISignIn | null = null;
  private _isAsking = false;
  private _isChoosing = false;
  private _error: IProblem | null = null;
  /** Counts the questions, so that a late answer is known as one. */
  private _asked = 0;
}

export namespace SignInModel {
  export interface IOptions {
    serverSettings: ServerConnection.ISettings;
    trans: TranslationBundle;
    /** Something is to be shown anew. */
    changed: () => void;
    /** Who is signed in may have changed. */
    fetchAgain: () => void;
  }
}

/**
 * Which of its faces the sign-in shows: what this page does first, then what the server says.
 *
 * @param isNeeded whether a list lacks machines because nobody is signed in
 */
export function signInView(model: ISignInModel, isNeeded: boolean): SignInView {
  if (model.isAsking) {
    return 'asking';
  }
  if (model.attempt) {
    return 'prompting';
  }
  if (model.isChoosing) {
    return 'choosing';
  }
  if (model.error) {
    return 'refused';
  }
  const { status } = model;
  switch (status?.state) {
    case 'signed_in':
      return 'signed_in';
    case 'prompting':
      return 'elsewhere';
    case 'failed':
      return status.method ? 'expired' : 'failed';
    case 'signed_out':
      // A server without Azure has nobody signed in either, and misses nothing.
      return isNeeded ? 'not_set_up' : 'hidden';
    default:
      return 'hidden';
  }
}

/** Who is signed in to the cloud. */
import { IProblem } from './problems';

export type SignInPhase = 'signed_out' | 'prompting' | 'signed_in' | 'failed';

export type SignInMethod =
  | 'device_code'
  | 'pasted_token'
  | 'token_file'
  | 'environment'
  | 'workload_identity'
  | 'managed_identity'
  | 'azure_cli'
  | 'hub';

/** Who is signed in to the cloud, or how an attempt stands. A code is in the answer to who asked for it, only. */
export interface ISignIn {
  revision: number;
  state: SignInPhase;
  cloud: string | null;
  method: SignInMethod | null;
  account: string | null;
  tenant: string | null;
  tenants: string[];
  kept: boolean;
  id: string | null;
  url: string | null;
  code: string | null;
  expires: string | null;
  error: IProblem | null;
}

/** The body of `POST signin`: how to ask for a code, or a token alone. */
export interface ISignInRequest {
  tenant?: string;
  keep?: boolean;
  token?: string;
}

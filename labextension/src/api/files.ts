/** Files that travel with a notebook. */
import { IProblem } from './problems';

export type WorkspacePhase =
  'off' | 'waiting' | 'copying' | 'in_step' | 'conflicts' | 'halted' | 'failed';

/** A file that both sides had changed. This server's version has the name, the other is kept beside it. */
export interface IWorkspaceConflict {
  /** Relative to the workspace. */
  path: string;
  /** Where the VM's version is. */
  kept_as: string;
}

/** A file that stayed where it was. */
export interface IWorkspaceFile {
  path: string;
  /** Bytes. */
  size: number | null;
  reason: string;
}

/** A folder here whose files are on a VM too. */
export interface IWorkspace {
  id: string;
  compute: string;
  /** Relative to the server's root; empty: the root itself. */
  folder: string;
  kernels: string[];
  state: WorkspacePhase;
  text: string;
  files: number;
  bytes: number;
  /** 0 to 1. */
  progress: number | null;
  conflicts: IWorkspaceConflict[];
  /** On the VM only, since this server has no room for them. */
  left_there: IWorkspaceFile[];
  skipped: IWorkspaceFile[];
  problem: IProblem | null;
  /** When both sides were last in step. */
  as_of: string | null;
}

export interface IWorkspaceList {
  revision: number;
  workspaces: IWorkspace[];
}

/** What would travel with a notebook to a compute. */
export interface IWorkspaceEstimate {
  folder: string;
  compute: string;
  allowed: boolean;
  /** Why its files cannot travel; empty where they can. */
  reason: string;
  files: number;
  bytes: number;
  /** So much that it is only copied if somebody says so. */
  needs_yes: boolean;
}

/** The body of `POST workspaces/{id}/sync`. */
export interface ISyncRequest {
  direction?: 'both' | 'push' | 'pull';
  /** Carry out what a sync had stopped before. */
  force?: boolean;
  /** Also where it is more than the server copies without being told. */
  yes?: boolean;
}

/** Which version of a file stays: this server's or the VM's. */
export type Keep = 'mine' | 'theirs';

/** The body of `POST workspaces/{id}/conflicts`. */
export interface IConflictRequest {
  path: string;
  keep: Keep;
}

/** The body of `POST workspaces/{id}/fetch`. */
export interface IFetchRequest {
  paths: string[];
}

import { IOutput } from '@jupyterlab/nbformat';

/** What was left out of a cell's outputs. */
export interface ICutOutputs {
  messages: number;
  bytes: number;
}

/** What `input()` waits for. */
export interface IInputRequest {
  /** Of the kernel's message, which is the parent of the reply. */
  id: string;
  prompt: string;
  password: boolean;
}

/** The last execution of a cell, and what it has put out. */
export interface ICellRun {
  /** The cell's id, as the request named it; empty for a widget. */
  cell: string;
  /** The id of an Output widget's comm, where this is what it has captured, which is no cell's. */
  widget: string | null;
  /** The request's id. */
  msg_id: string;
  /** Of the client that sent it. */
  session: string;
  version: number;
  /** What was run; null where it is too long. */
  source: string | null;
  source_sha256: string;
  state: 'queued' | 'running' | 'done' | 'aborted';
  /** As its reply says: `ok`, `error` or `aborted`. */
  status: string | null;
  execution_count: number | null;
  started: string | null;
  ended: string | null;
  prompts: IInputRequest[];
  /** So many of its first outputs are as they were in the state that was named. */
  kept: number;
  /** So much of the text of the first of `outputs`, a stream, is as it was, and not in it. */
  kept_text: number;
  /** The others. */
  outputs: IOutput[];
  cut: ICutOutputs | null;
}

/** The answer, or a part of it, to `GET kernels/{kernel_id}/outputs`. */
export interface ICellRunList {
  version: number;
  rows: ICellRun[];
  /** Asks for the next part, as `after`; null in the last one. */
  next: number | null;
  /** The pages that are connected now: those see what they have run themselves. */
  sessions: string[];
}

/** A file at one time, as the contents API describes it. */
export interface IFileState {
  last_modified: string;
  hash: string | null;
}

/** A notebook whose file got outputs while no page was open. */
export interface ISavedFile {
  path: string;
  /** As somebody else had saved it, and then after each time; the latest last. */
  states: IFileState[];
}

/** The answer to `GET kernels/{kernel_id}/saved`. */
export interface ISavedOutputs {
  files: ISavedFile[];
}

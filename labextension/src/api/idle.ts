/** When a machine that nobody uses is stopped. */

export type IdlePhase = 'never' | 'busy' | 'kept' | 'idle' | 'stops_soon' | 'stop';

/** Whether and when a VM that is on is stopped by itself. */
export interface IIdleStop {
  state: IdlePhase;
  /** A sentence, without the time that is left: that is counted from `stops_at`. */
  text: string;
  /** Null where nothing is counted down. */
  stops_at: string | null;
  kept_until: string | null;
  /** After how many it is stopped; null: never for being idle. */
  idle_minutes: number | null;
  /** Since its start; it is stopped then whatever runs. */
  hard_limit_hours: number | null;
  /** `stops_at` is the hard limit's: what runs then is stopped too. */
  hard: boolean;
  /** Files on the VM's temporary disk that a stop loses. */
  lost: string[];
  safety: ISafetyStop | null;
}

/** What a stop of a VM loses: files on its temporary disk. */
export interface IStopLoss {
  /** False: it is off, not connected to, or does not answer, so nobody knows. */
  known: boolean;
  /** A sentence; empty where nothing is lost, or nobody knows. */
  text: string;
  files: string[];
  more: number;
  bytes: number;
}

/** The VM's own auto-shutdown schedule in Azure, which stops it where this server is no more. */
export interface ISafetyStop {
  kind: 'ours' | 'theirs' | 'none';
  text: string;
  /** When Azure stops it next, unless that is moved on. */
  at: string | null;
  /** False: it comes at that time, and nothing can be done about it any more. */
  averted: boolean;
}

/** The body of `PUT computes/{id}/idle`: what is absent stays as it is. */
export interface IIdleRequest {
  /** From now on; 0: no longer. */
  keep_seconds?: number;
  /** Null: never for being idle. */
  idle_minutes?: number | null;
  /** Null: none. */
  hard_limit_hours?: number | null;
}

/** What machines have cost. */

/** What machines have cost, as an estimate; from `as_of` on it grows by `per_hour`. */
export interface ISpend {
  revision: number;
  as_of: string;
  /** Null where nothing is known yet. */
  currency: string | null;
  today: number;
  month: number;
  per_hour: number;
  computes: IComputeSpend[];
  budgets: IBudget[];
  /** Names of machines that were on this month with no known price, or one in another currency: what they cost then is not in here. */
  unpriced: string[];
  /** Names of machines of which nobody knows, for some time of this month, whether they were on: what they cost then is a guess. */
  unseen: string[];
}

export interface IComputeSpend {
  compute: string;
  name: string;
  today: number;
  month: number;
  /** What it costs now, its disk not counted: 0 where it is off. */
  per_hour: number;
}

export interface IBudget {
  /** Null: of all machines together. */
  compute: string | null;
  /** The machine's; empty where it is of all. */
  name: string;
  period: 'day' | 'month';
  limit: number;
  spent: number;
  /** A warning from 80 % on. */
  state: 'ok' | 'warning' | 'exceeded';
  /** Whether a start is refused once it is exceeded. */
  refuses: boolean;
}

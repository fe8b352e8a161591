/** What went wrong. */

/** What was tried and what the other side said; what to do next. Both are shown to people. */
export interface IProblem {
  code: string;
  message: string;
  advice: string;
  /** Seconds. */
  retry_after?: number | null;
}

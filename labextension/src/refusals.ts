/** Refusals that lead somewhere: Azure's to another size or to more quota, ours to a budget. Pure. */
import { IProblem } from './api';
import { textParts } from './links';

export type Refusal = 'noCapacity' | 'overQuota' | 'freeAccount' | 'overBudget';

/** What Azure answers where it has no hardware of that size. */
const NO_CAPACITY = new Set([
  'AllocationFailed',
  'ZonalAllocationFailed',
  'OverconstrainedAllocationRequest',
  'OverconstrainedZonalAllocationRequest',
  'SkuNotAvailable'
]);

/** The server's own, where a budget is spent. */
const OVER_BUDGET = 'BudgetExceeded';

/** With the first of them Azure also means other things; then it does not speak of a quota. */
const QUOTA = new Set(['OperationNotAllowed', 'QuotaExceeded']);

/** What the server adds to its advice for a subscription of that kind (`refusals.free_offer`). */
export const GETS_NO_GPU = 'gets no GPU sizes';

/** What kind of refusal it is; null for any other problem. */
export function refusalOf(problem: IProblem | null | undefined): Refusal | null {
  if (!problem) {
    return null;
  }
  if (problem.code === OVER_BUDGET) {
    return 'overBudget';
  }
  const isQuota = QUOTA.has(problem.code) && /quota/i.test(problem.message);
  if ((isQuota || NO_CAPACITY.has(problem.code)) && problem.advice.includes(GETS_NO_GPU)) {
    return 'freeAccount';
  }
  return isQuota ? 'overQuota' : NO_CAPACITY.has(problem.code) ? 'noCapacity' : null;
}

/** The cores that there may be and those that it takes, as far as Azure said so. */
export function quotaOf(problem: IProblem): { limit: number; needed: number } | null {
  const said = /Current Limit: (\d+), Current Usage: (\d+), Additional Required: (\d+)/i.exec(
    problem.message
  );
  return said ? { limit: Number(said[1]), needed: Number(said[2]) + Number(said[3]) } : null;
}

/** Where more quota can be asked for: the page that the advice names. */
export function quotaPage(problem: IProblem): string | null {
  return textParts(problem.advice).find(part => part.href)?.href ?? null;
}

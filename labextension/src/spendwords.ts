/** What machines have cost, in words. Pure. */
import { TranslationBundle } from '@jupyterlab/translation';

import { IBudget, ISpend } from './api';
import { amountText } from './words';

const HOUR = 3_600_000;

/** Amounts of a moment: what was spent by `as_of`, and what has been added since. */
export function spentBy<T extends { today: number; month: number; per_hour: number }>(
  spent: T,
  asOf: string,
  now: number
): { today: number; month: number } {
  const more = (spent.per_hour * Math.max(0, now - Date.parse(asOf))) / HOUR || 0;
  return { today: spent.today + more, month: spent.month + more };
}

/** “~$1.12”: an estimate, hence the tilde; without cents where there is much. */
export function aboutAmount(amount: number, currency: string, trans: TranslationBundle): string {
  return trans.__('~%1', amountText(amount, currency, amount >= 10));
}

/** “~$1.12 today”; empty where nothing is known, or nothing was spent. */
export function todayText(spend: ISpend | null, now: number, trans: TranslationBundle): string {
  if (!spend?.currency) {
    return '';
  }
  const { today } = spentBy(spend, spend.as_of, now);
  return today < 0.005 ? '' : trans.__('%1 today', aboutAmount(today, spend.currency, trans));
}

/** “~$17 this month”. */
export function monthText(spend: ISpend, now: number, trans: TranslationBundle): string {
  const { month } = spentBy(spend, spend.as_of, now);
  return trans.__('%1 this month', aboutAmount(month, spend.currency ?? '', trans));
}

/** Budgets that a person must know of: most of it is spent, or all. */
export function spentBudgets(spend: ISpend | null): IBudget[] {
  return spend?.currency ? spend.budgets.filter(({ state }) => state !== 'ok') : [];
}

/** “Budget for this month: $17.40 of $20.00, 87 %.” */
export function budgetText(budget: IBudget, currency: string, trans: TranslationBundle): string {
  const { name, period, limit, spent } = budget;
  const what =
    period === 'day'
      ? name
        ? trans.__('Budget of %1 for today', name)
        : trans.__('Budget for today')
      : name
        ? trans.__('Budget of %1 for this month', name)
        : trans.__('Budget for this month');
  const share = limit > 0 ? Math.floor((100 * spent) / limit + 1e-9) : 100;
  const figures = trans.__(
    '%1: %2 of %3 is spent, %4\u00a0%.',
    what,
    aboutAmount(spent, currency, trans),
    amountText(limit, currency, Number.isInteger(limit)),
    share
  );
  return budget.state === 'exceeded' && budget.refuses
    ? [figures, trans.__('Until it begins anew, nothing is started that costs money.')].join(' ')
    : figures;
}

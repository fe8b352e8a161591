import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { ISpend } from '../api';
import { Passing } from '../clock';
import { h } from '../jsx';
import {
  aboutAmount,
  budgetText,
  monthText,
  spentBudgets,
  spentBy,
  todayText
} from '../spendwords';
import { ToneIcon } from './ToneIcon';

interface ISpendingProps {
  spend: ISpend | null;
  trans: TranslationBundle;
}

/** “~$1.12 today · ~$17 this month”, and of which machine; nothing where nothing is known. */
export function Spending(props: ISpendingProps): React.ReactElement | null {
  const { spend } = props;
  return spend?.currency ? (
    <Passing isNeeded={spend.per_hour > 0}>
      {now => <Spent {...props} spend={spend} now={now} />}
    </Passing>
  ) : null;
}

function Spent(props: {
  spend: ISpend;
  now: number;
  trans: TranslationBundle;
}): React.ReactElement {
  const { spend, now, trans } = props;
  const currency = spend.currency ?? '';
  const amount = (value: number): string => aboutAmount(value, currency, trans);
  const spent = spend.computes.filter(({ month }) => month > 0);
  return (
    <details className="jp-Dsvm-spend">
      <summary>
        {[todayText(spend, now, trans), monthText(spend, now, trans)].filter(Boolean).join(' · ')}
      </summary>
      {spent.length > 0 && (
        <ul>
          {spent.map(one => {
            const { today, month } = spentBy(one, spend.as_of, now);
            return (
              <li key={one.compute}>
                {trans.__('%1: %2 today, %3 this month', one.name, amount(today), amount(month))}
              </li>
            );
          })}
        </ul>
      )}
      <p>{trans.__('An estimate: the time on at list prices. Disks are not counted.')}</p>
      {spend.unpriced.length > 0 && (
        <p>
          {trans.__('Not in it, since the price was not known: %1.', spend.unpriced.join(', '))}
        </p>
      )}
      {spend.unseen.length > 0 && (
        <p>
          {trans.__(
            'Nobody saw for some time whether they were on, so that is a guess: %1.',
            spend.unseen.join(', ')
          )}
        </p>
      )}
    </details>
  );
}

/** Budgets that are nearly spent, or are. */
export function Budgets({ spend, trans }: ISpendingProps): React.ReactElement {
  return (
    <>
      {spentBudgets(spend).map(budget => (
        <p
          key={`${budget.compute} ${budget.period}`}
          className="jp-Dsvm-caution"
          role="status"
          data-budget={budget.state}
        >
          <ToneIcon tone={budget.state === 'exceeded' ? 'gone' : 'warn'} />
          <span>{budgetText(budget, spend?.currency ?? '', trans)}</span>
        </p>
      ))}
    </>
  );
}

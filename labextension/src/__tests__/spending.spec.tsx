import { nullTranslator } from '@jupyterlab/translation';
import { act, cleanup, render, screen } from '@testing-library/react';

import { IBudget, ISpend } from '../api';
import { Budgets, Spending } from '../components/Spending';
import { h } from '../jsx';
import { aboutAmount, budgetText, spentBy } from '../spendwords';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');
const [budget] = fixtures.spend.budgets;
const HOUR = 3_600_000;

describe('what machines have cost', () => {
  beforeEach(() => {
    jest.useFakeTimers({ now: Date.parse(fixtures.spend.as_of) });
  });

  afterEach(() => {
    cleanup();
    jest.useRealTimers();
  });

  const summary = () => document.querySelector('summary')?.textContent;

  it('is shown with what it is made of, and grows without a request', () => {
    render(
      <Spending
        spend={{ ...fixtures.spend, unpriced: ['old-vm'], unseen: ['gpu-vm'] }}
        trans={trans}
      />
    );
    expect(summary()).toBe('~$1.12 today · ~$17 this month');
    expect(screen.getByRole('listitem').textContent).toBe('gpu-vm: ~$1.12 today, ~$17 this month');
    expect(document.body.textContent).toContain('Disks are not counted.');
    expect(document.body.textContent).toContain('the price was not known: old-vm.');
    expect(document.body.textContent).toContain('so that is a guess: gpu-vm.');
    act(() => jest.advanceTimersByTime(6 * HOUR));
    expect(summary()).toBe('~$4.28 today · ~$21 this month');
    expect(screen.getByRole('listitem').textContent).toContain('~$4.28 today');
  });

  it('needs no clock while nothing costs anything', () => {
    render(<Spending spend={{ ...fixtures.spend, per_hour: 0, today: 0 }} trans={trans} />);
    expect(summary()).toBe('~$17 this month');
    expect(jest.getTimerCount()).toBe(0);
  });

  it('is not shown where it is not known', () => {
    const { container, rerender } = render(<Spending spend={null} trans={trans} />);
    expect(container.textContent).toBe('');
    rerender(<Spending spend={{ ...fixtures.spend, currency: null }} trans={trans} />);
    expect(container.textContent).toBe('');
  });

  it('takes no moment of the server for one that is to come', () => {
    const early = Date.parse(fixtures.spend.as_of) - HOUR;
    expect(spentBy(fixtures.spend, fixtures.spend.as_of, early)).toEqual({
      today: 1.12,
      month: 17.4
    });
    expect(spentBy(fixtures.spend, 'no moment', early).today).toBe(1.12);
    expect(aboutAmount(9.994, 'USD', trans)).toBe('~$9.99');
    expect(aboutAmount(3, 'no currency', trans)).toBe('~3 no currency');
  });
});

describe('budgets', () => {
  afterEach(cleanup);

  it.each<[Partial<IBudget>, string]>([
    [{}, 'Budget for this month: ~$17 of $20 is spent, 87\u00a0%.'],
    [
      { compute: fixtures.gpu.id, name: 'gpu-vm', period: 'day', limit: 4.5, spent: 4 },
      'Budget of gpu-vm for today: ~$4.00 of $4.50 is spent, 88\u00a0%.'
    ],
    [
      { state: 'exceeded', spent: 21 },
      'Budget for this month: ~$21 of $20 is spent, 105\u00a0%. Until it begins anew, nothing is started that costs money.'
    ],
    [
      { state: 'exceeded', spent: 21, refuses: false, period: 'day' },
      'Budget for today: ~$21 of $20 is spent, 105\u00a0%.'
    ],
    [
      { compute: fixtures.gpu.id, name: 'gpu-vm', limit: 0 },
      'Budget of gpu-vm for this month: ~$17 of $0 is spent, 100\u00a0%.'
    ]
  ])('%p', (change, text) => {
    expect(budgetText({ ...budget, ...change }, 'USD', trans)).toBe(text);
  });

  it('are shown once most of them is spent', () => {
    const shown = (budgets: IBudget[], change: Partial<ISpend> = {}) => {
      render(<Budgets spend={{ ...fixtures.spend, budgets, ...change }} trans={trans} />);
      const found = screen.queryAllByRole('status').map(node => node.dataset.budget);
      cleanup();
      return found;
    };
    const exceeded: IBudget = { ...budget, period: 'day', state: 'exceeded' };
    expect(shown([{ ...budget, state: 'ok' }, budget, exceeded])).toEqual(['warning', 'exceeded']);
    expect(shown([budget], { currency: null })).toEqual([]);
  });
});

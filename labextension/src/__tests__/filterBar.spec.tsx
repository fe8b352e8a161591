import { nullTranslator } from '@jupyterlab/translation';
import { cleanup, fireEvent, render, screen, within } from '@testing-library/react';
import * as React from 'react';

import { ICompute } from '../api';
import { FilterBar } from '../components/FilterBar';
import { DEFAULT_FILTERS, IFilters, matching } from '../filters';
import { h } from '../jsx';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');
const few: ICompute[] = [fixtures.gpu, fixtures.cpu];
const many = Array.from({ length: 12 }, (_, n) => ({
  ...fixtures.gpu,
  id: `azure:${n}`,
  name: `vm-${n}`,
  subscription: n % 2 ? 'one' : 'two'
}));

/** As in the panel: what is chosen is what is shown next. */
function Stateful(props: { machines: ICompute[]; start?: Partial<IFilters> }): React.ReactElement {
  const [filters, setFilters] = React.useState({ ...DEFAULT_FILTERS, ...props.start });
  return (
    <FilterBar
      filters={filters}
      machines={props.machines}
      shown={matching(props.machines, filters).length}
      heading={<h3>Machines</h3>}
      onChange={change => setFilters({ ...filters, ...change })}
      trans={trans}
    >
      <p>Between</p>
    </FilterBar>
  );
}

const button = (name: RegExp | string) => screen.getByRole('button', { name });
const field = () => screen.queryByRole<HTMLInputElement>('searchbox');

afterEach(cleanup);

describe('the filters of the panel', () => {
  it('are a button where there are few machines', () => {
    render(<Stateful machines={few} />);
    expect(field()).toBeNull();
    expect(button('Filters').getAttribute('aria-expanded')).toBe('false');
    fireEvent.click(button('Filters'));
    expect(button('Filters').getAttribute('aria-expanded')).toBe('true');
    expect(field()).not.toBeNull();
    expect(screen.queryByLabelText('Subscription')).toBeNull();
    fireEvent.click(button('Filters'));
    expect(field()).toBeNull();
  });

  it('begin with a field for the name where there are many', () => {
    render(<Stateful machines={many} />);
    fireEvent.change(field()!, { target: { value: 'vm-11' } });
    expect(screen.getByRole('status').textContent).toBe('Showing 1 of 12.');
    expect(screen.queryByLabelText('Only with GPU')).toBeNull();
  });

  it('are name, GPU, memory, state and subscription', () => {
    render(<Stateful machines={many} />);
    fireEvent.click(button('Filters'));
    const choose = (label: string, value: string) =>
      fireEvent.change(screen.getByLabelText(label), { target: { value } });
    const result = () => screen.getByRole('status').textContent;
    choose('Subscription', 'one');
    expect(result()).toBe('Showing 6 of 12.');
    choose('Memory', '32');
    expect(result()).toBe('Showing 0 of 12.');
    choose('Memory', '16');
    expect(result()).toBe('Showing 6 of 12.');
    choose('State', 'on');
    expect(result()).toBe('Showing 0 of 12.');
    choose('State', 'any');
    fireEvent.click(screen.getByLabelText('Only with GPU'));
    expect(result()).toBe('Showing 6 of 12.');
    fireEvent.click(button('Clear filters'));
    expect(screen.queryByRole('status')).toBeNull();
    expect(screen.getByLabelText<HTMLInputElement>('Only with GPU').checked).toBe(false);
    expect(document.activeElement).toBe(field());
  });

  it('say that some are set, also while they are closed', () => {
    render(<Stateful machines={few} start={{ withGpu: true }} />);
    expect(button('Filters (some are set)')).toBeTruthy();
    expect(screen.getByRole('status').textContent).toBe('Showing 1 of 2.');
    fireEvent.click(button('Clear filters'));
    expect(document.activeElement).toBe(button('Filters'));
  });

  it('do not take the field away under the hands of who empties it', () => {
    render(<Stateful machines={few} start={{ text: 'g' }} />);
    fireEvent.focus(field()!);
    fireEvent.change(field()!, { target: { value: '' } });
    expect(field()).not.toBeNull();
  });

  it('are not there where there is nothing to choose from', () => {
    render(<Stateful machines={[fixtures.gpu]} start={{ withGpu: true }} />);
    expect(screen.queryByRole('button')).toBeNull();
    expect(screen.getByText('Between')).toBeTruthy();
    expect(screen.getByRole('heading', { name: 'Machines' })).toBeTruthy();
  });

  it('are one search region, with every choice named', () => {
    render(<Stateful machines={many} />);
    fireEvent.click(button('Filters'));
    const region = within(screen.getByRole('search', { name: 'Filter the machines' }));
    expect(region.getAllByRole('combobox').map(box => box.getAttribute('aria-label'))).toEqual([
      'Memory',
      'State',
      'Subscription'
    ]);
  });
});

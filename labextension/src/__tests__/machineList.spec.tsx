import { act, cleanup, fireEvent, render, screen } from '@testing-library/react';
import * as React from 'react';

import { ICompute } from '../api';
import { IPlacement } from '../components/Card';
import { ALL_SHOWN, MachineList } from '../components/MachineList';
import { h } from '../jsx';
import * as fixtures from './fixtures';

const machines = (count: number): ICompute[] =>
  Array.from({ length: count }, (_, n) => ({ ...fixtures.gpu, id: `azure:${n}`, name: `vm-${n}` }));

/** A card as the list needs it: placed, measured, with something that takes the focus. */
function Stub(props: { compute: ICompute; placement?: IPlacement }): React.ReactElement {
  const { compute, placement } = props;
  return (
    <li
      ref={placement?.measure}
      data-compute={compute.id}
      data-index={placement?.index}
      style={placement?.style}
      aria-posinset={placement && placement.index + 1}
      aria-setsize={placement?.count}
    >
      <button>{compute.name}</button>
    </li>
  );
}

const element = (shown: ICompute[]) => (
  <div className="jp-Dsvm-panel" data-testid="panel">
    <MachineList
      machines={shown}
      label="Machines"
      card={(compute, placement) => (
        <Stub key={compute.id} compute={compute} placement={placement} />
      )}
    />
  </div>
);

const names = () => screen.getAllByRole('button').map(({ textContent }) => textContent);

async function scrollTo(top: number): Promise<void> {
  const panel = screen.getByTestId('panel');
  await act(async () => {
    panel.scrollTop = top;
    fireEvent.scroll(panel);
    await new Promise(resolve => setTimeout(resolve, 0));
  });
}

describe('the list of machines', () => {
  beforeEach(() => {
    // jsdom has no layout: a window of 600 pixels, cards of 100.
    jest.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockImplementation(function (
      this: HTMLElement
    ) {
      return this.dataset.testid === 'panel' ? 600 : 100;
    });
    jest.spyOn(HTMLElement.prototype, 'offsetWidth', 'get').mockReturnValue(300);
    jest.spyOn(Element.prototype, 'getBoundingClientRect').mockImplementation(function (
      this: Element
    ) {
      const panel = this.closest('.jp-Dsvm-panel');
      const top = this.tagName === 'UL' ? -(panel?.scrollTop ?? 0) : 0;
      return { top, left: 0, width: 300, height: 100 } as DOMRect;
    });
  });

  afterEach(() => {
    cleanup();
    jest.restoreAllMocks();
  });

  it('is all there while it is short', () => {
    render(element(machines(ALL_SHOWN)));
    expect(names()).toHaveLength(ALL_SHOWN);
    expect(screen.getAllByRole('listitem')[0].hasAttribute('aria-posinset')).toBe(false);
  });

  it('is in the document only around what is in sight, and says where that is', async () => {
    render(element(machines(300)));
    expect(names().length).toBeLessThan(40);
    expect(names()[0]).toBe('vm-0');
    const first = screen.getAllByRole('listitem')[0];
    expect([first.getAttribute('aria-posinset'), first.getAttribute('aria-setsize')]).toEqual([
      '1',
      '300'
    ]);
    await scrollTo(20_000);
    expect(names()).not.toContain('vm-0');
    expect(names().length).toBeLessThan(40);
    expect(screen.getByRole('list', { name: 'Machines' }).style.height).not.toBe('');
  });

  it('keeps what has the focus, in its place in the order', async () => {
    render(element(machines(300)));
    act(() => screen.getByRole('button', { name: 'vm-2' }).focus());
    await scrollTo(20_000);
    expect(document.activeElement?.textContent).toBe('vm-2');
    expect(names()[0]).toBe('vm-2');
    await scrollTo(0);
    expect(names().slice(0, 4)).toEqual(['vm-0', 'vm-1', 'vm-2', 'vm-3']);
    expect(document.activeElement?.textContent).toBe('vm-2');
  });

  it('lets go of it when the focus is elsewhere', async () => {
    render(element(machines(300)));
    const button = screen.getByRole('button', { name: 'vm-2' });
    act(() => button.focus());
    act(() => button.blur());
    await scrollTo(20_000);
    expect(names()).not.toContain('vm-2');
  });

  it('becomes short and long again with the filters', () => {
    const { rerender } = render(element(machines(300)));
    rerender(element(machines(3)));
    expect(names()).toEqual(['vm-0', 'vm-1', 'vm-2']);
    rerender(element(machines(300)));
    expect(names()[0]).toBe('vm-0');
  });
});

import { cleanup, render, screen } from '@testing-library/react';
import * as React from 'react';

import { useKeptFocus } from '../components/keptFocus';
import { h } from '../jsx';

/** What is shown in the region; null: there is no region. */
type Show = React.ReactNode | null;

function Region(props: { show: Show; tabIndex?: number }): React.ReactElement | null {
  const region = useKeptFocus<HTMLDivElement>();
  return props.show === null ? null : (
    <div ref={region} tabIndex={props.tabIndex} data-testid="region">
      {props.show}
    </div>
  );
}

const first = (name: string) => (
  <button key={name} data-first>
    {name}
  </button>
);
const focused = () => document.activeElement?.textContent;

/** Show one after the other, with the focus on the first button of the first. */
function sequence(shows: Show[], tabIndex?: number): void {
  const page = (show: Show) => (
    <>
      <button>Elsewhere</button>
      <Region show={show} tabIndex={tabIndex} />
    </>
  );
  const { rerender } = render(page(shows[0]));
  screen.getAllByRole('button')[1].focus();
  shows.slice(1).forEach(show => rerender(page(show)));
}

afterEach(cleanup);

describe('the focus of a button that goes', () => {
  it('goes to what came in its place', () => {
    sequence([first('Sign in'), first('Copy code')]);
    expect(focused()).toBe('Copy code');
  });

  it('waits while there is nothing for it', () => {
    sequence([first('Sign in'), <p key="p">Asking…</p>, first('Copy code')]);
    expect(focused()).toBe('Copy code');
  });

  it('waits while there is no region at all', () => {
    sequence([first('Sign in'), null, <p key="p">Asking…</p>, first('Copy code')]);
    expect(focused()).toBe('Copy code');
  });

  it('stays where it is as long as its button does', () => {
    sequence([[first('First'), <button key="b">Second</button>], [first('First')]]);
    expect(focused()).toBe('First');
  });

  it('goes to the region where that can have it, and on from there by the keyboard', () => {
    sequence([first('Start'), <p key="p">Step 1</p>, first('Attach')], -1);
    expect(document.activeElement).toBe(screen.getByTestId('region'));
  });

  it('is nobody’s business once the person has gone elsewhere', () => {
    const page = (show: Show) => (
      <>
        <button>Elsewhere</button>
        <Region show={show} />
      </>
    );
    const { rerender } = render(page(first('Sign in')));
    screen.getByText('Sign in').focus();
    rerender(page(<p key="p">Asking…</p>));
    screen.getByText('Elsewhere').focus();
    rerender(page(<p key="q">Still asking…</p>));
    rerender(page(first('Copy code')));
    expect(focused()).toBe('Elsewhere');
  });

  it('is not taken from a page where nobody had it', () => {
    const { rerender } = render(<Region show={first('Sign in')} />);
    rerender(<Region show={first('Copy code')} />);
    expect(document.activeElement).toBe(document.body);
  });
});

import { nullTranslator } from '@jupyterlab/translation';
import { cleanup, fireEvent, render, screen } from '@testing-library/react';

import { IThisNotebookProps, ThisNotebook } from '../components/ThisNotebook';
import { h } from '../jsx';
import { FakeCurrent } from './fakeModel';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

function show(change: Partial<IThisNotebookProps> = {}): unknown[] {
  const done: unknown[] = [];
  render(
    <ThisNotebook
      notebook={new FakeCurrent().notebook}
      kernel={fixtures.kernel}
      compute={fixtures.free}
      onMoveTo={anchor => void done.push(['move to', anchor.textContent])}
      onResume={() => void done.push('resume')}
      onDetach={() => void done.push('detach')}
      onCancel={operation => void done.push(['cancel', operation.id])}
      onDismiss={operation => void done.push(['dismiss', operation.id])}
      gauge={<p>Memory 2.9 of 4 GB</p>}
      trans={trans}
      {...change}
    />
  );
  return done;
}

const text = () => document.body.textContent;
const button = (name: string) => screen.queryByRole('button', { name });

afterEach(cleanup);

describe('this notebook', () => {
  it('says where it runs, how full that is, and leads elsewhere', () => {
    const done = show();
    expect(screen.getByRole('status').textContent).toBe(
      'analysis.ipynb runs on Free tier (2 CPU · 4 GB).'
    );
    expect(text()).toContain('Memory 2.9 of 4 GB');
    const moveTo = button('Move to…')!;
    expect(moveTo.getAttribute('aria-haspopup')).toBe('menu');
    fireEvent.click(moveTo);
    expect(done).toEqual([['move to', 'Move to…']]);
  });

  it('shows how full it is where it runs, wherever that is, and nothing without a kernel', () => {
    show({ kernel: { ...fixtures.kernel, compute: fixtures.cpu.id }, compute: fixtures.cpu });
    expect(text()).toContain('Memory');
    cleanup();
    show({ kernel: undefined, compute: undefined });
    expect(text()).not.toContain('Memory');
  });

  it('offers no move while it moves, without a kernel, and where there is nothing to move to', () => {
    show({ kernel: { ...fixtures.kernel, moving_to: fixtures.gpu.id }, target: fixtures.gpu });
    expect(button('Move to…')).toBeNull();
    cleanup();
    show({ kernel: undefined, compute: undefined });
    expect(button('Move to…')).toBeNull();
    cleanup();
    show({ onMoveTo: undefined });
    expect(button('Move to…')).toBeNull();
  });

  it('says where it last ran, and starts nothing by itself', () => {
    const done = show({ last: fixtures.gpu, canResume: true });
    expect(text()).toContain('Last ran on gpu-vm (off).');
    expect(done).toEqual([]);
    fireEvent.click(button('Start and attach')!);
    expect(done).toEqual(['resume']);
  });

  it('offers the way there as it is now', () => {
    show({ last: fixtures.cpu, canResume: true });
    expect(text()).toContain('Last ran on cpu-vm (on).');
    expect(button('Attach this notebook')).not.toBeNull();
    cleanup();
    show({ last: { ...fixtures.cpu, power_state: 'unknown' }, canResume: false });
    expect(text()).toContain('Last ran on cpu-vm.');
    expect(button('Attach this notebook')).toBeNull();
  });

  it('says why its kernel ended and what to do', () => {
    const problem = {
      code: 'OutOfMemory',
      message: 'It used more than 4 GB.',
      advice: 'Move to a machine with more memory.'
    };
    show({ kernel: { ...fixtures.kernel, problem } });
    const alert = screen.getByRole('alert');
    expect(alert.textContent).toBe(problem.message + problem.advice);
    expect(button('Move to…')).not.toBeNull();
  });

  it('keeps the keyboard in place when a move begins', () => {
    const props = (kernel: IThisNotebookProps['kernel']) => (
      <ThisNotebook
        notebook={new FakeCurrent().notebook}
        kernel={kernel}
        compute={fixtures.free}
        onMoveTo={jest.fn()}
        onDetach={jest.fn()}
        onCancel={jest.fn()}
        onDismiss={jest.fn()}
        trans={trans}
      />
    );
    const { rerender } = render(props(fixtures.kernel));
    button('Move to…')!.focus();
    rerender(props({ ...fixtures.kernel, moving_to: fixtures.gpu.id }));
    expect(document.activeElement?.className).toBe('jp-Dsvm-notebook');
  });
});

import { nullTranslator } from '@jupyterlab/translation';
import { act } from 'react';
import { createRoot, Root } from 'react-dom/client';

import { IAdvice, IFit } from '../api';
import { AdviceLine, warningOf } from '../components/AdviceLine';
import { h } from '../jsx';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

const fit = (more: Partial<IFit>): IFit => ({ ...fixtures.advice.fits[0], ...more });
const onGpu = fit({ compute: fixtures.gpu.id, price: fixtures.gpu.price });
const onCpu = fit({
  compute: fixtures.cpu.id,
  name: 'cpu-vm',
  gpu: false,
  price: { ...fixtures.gpu.price!, amount: fixtures.gpu.price!.amount / 2 }
});
const advised = (more: Partial<IAdvice>): IAdvice => ({
  ...fixtures.advice,
  fits: [onGpu, onCpu],
  ...more
});

describe('the line on CPU or GPU', () => {
  let root: Root;
  let node: HTMLElement;

  beforeEach(() => {
    (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;
    node = document.body.appendChild(document.createElement('div'));
    root = createRoot(node);
  });

  afterEach(async () => {
    await act(async () => root.unmount());
    node.remove();
    (globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = false;
  });

  const show = async (load: () => Promise<IAdvice>) =>
    act(async () => {
      root.render(<AdviceLine compute={fixtures.gpu} load={load} trans={trans} />);
    });

  it('says the grade, what speaks against the machine, and the reasons', async () => {
    await show(async () => advised({}));
    const [line, warning] = [...node.querySelectorAll('.jp-Dsvm-advice > p')];
    expect(line.textContent).toBe(`▲ ${fixtures.advice.sentences[0]}`);
    expect(line.querySelector('[aria-hidden="true"]')?.textContent).toBe('▲ ');
    expect(warning.textContent).toBe('gpu-vm costs 2.0 times as much as cpu-vm, with no gain.');
    expect(node.querySelector('details')?.open).toBe(false);
    expect([...node.querySelectorAll('li')].map(item => item.textContent)).toEqual(
      fixtures.advice.sentences.slice(1)
    );
    expect(node.querySelector('[role="status"]')).not.toBeNull();
  });

  it('is one line where nothing speaks against the machine', async () => {
    await show(async () => advised({ gpu: 'needed', sentences: ['It needs a GPU.'] }));
    expect(node.textContent).toBe('✓ It needs a GPU.');
  });

  it('is not there before it is known, or where it cannot be', async () => {
    await show(() => new Promise(() => undefined));
    expect(node.textContent).toBe('');
    await act(async () => root.unmount());
    root = createRoot(node);
    await show(() => Promise.reject(new Error('no')));
    expect(node.textContent).toBe('');
  });
});

describe('what speaks against a machine', () => {
  it.each<[string, Partial<IAdvice>, string]>([
    ['a price without gain', {}, 'gpu-vm costs 2.0 times as much as cpu-vm, with no gain.'],
    ['nothing where a GPU gains', { gpu: 'gains' }, ''],
    ['nothing where it is unknown', { gpu: 'unknown' }, ''],
    [
      'too little memory',
      { fits: [fit({ fits: false })] },
      'gpu-vm has not enough memory for it, as far as is known.'
    ],
    ['no GPU', { gpu: 'needed', fits: [fit({ gpu: false })] }, 'gpu-vm has no GPU.'],
    ['nothing of a machine that is not in it', { fits: [onCpu] }, ''],
    ['nothing without a price', { fits: [fit({ price: null }), onCpu] }, ''],
    [
      'nothing in two currencies',
      { fits: [onGpu, fit({ ...onCpu, price: { ...onCpu.price!, currency: 'EUR' } })] },
      ''
    ],
    [
      'much',
      { fits: [fit({ price: { ...onGpu.price!, amount: 20 * onCpu.price!.amount } }), onCpu] },
      'gpu-vm costs 20 times as much as cpu-vm, with no gain.'
    ]
  ])('%s', (_, more, text) => {
    expect(warningOf(advised(more), fixtures.gpu, trans)).toBe(text);
  });
});

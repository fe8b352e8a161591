import { nullTranslator } from '@jupyterlab/translation';

import {
  aboutText,
  agoText,
  durationText,
  gpuText,
  operationText,
  priceText,
  sizeText
} from '../words';
import * as fixtures from './fixtures';

const trans = nullTranslator.load('jupyter_dsvm');

describe('sizes, prices and times', () => {
  it('says a size in plain words and leaves out what is not known', () => {
    expect(sizeText(fixtures.gpu.size, trans)).toBe('4 CPU · 28 GB · 1 × T4');
    expect(sizeText(fixtures.cpu.size, trans)).toBe('4 CPU · 16 GB');
    expect(
      sizeText({ name: 'x', vcpus: null, memory_gib: 3.84, gpus: 2, gpu_model: null }, trans)
    ).toBe('3.8 GB · 2 GPU');
    expect(sizeText(null, trans)).toBe('');
  });

  it.each([
    ['NVIDIA T4 16 GB', 'T4'],
    ['NVIDIA H100 NVL 94 GB', 'H100 NVL'],
    ['T4', 'T4']
  ])('shortens %s to %s', (model, short) => {
    expect(gpuText(model)).toBe(short);
  });

  it('marks a price as an estimate', () => {
    expect(priceText(fixtures.gpu.price!, trans)).toBe('~$0.53/h');
    expect(priceText({ amount: 1, currency: 'not a currency', as_of: '' }, trans)).toBe(
      '~1 not a currency/h'
    );
  });

  it.each([
    ['10:00:00', '10:00:09', '9 s'],
    ['10:00:00', '10:01:52', '1 min 52 s'],
    ['10:00:00', '12:05:00', '2 h 5 min']
  ])('from %s to %s is %s', (from, to, text) => {
    expect(durationText(`2026-11-21T${from}Z`, `2026-11-21T${to}Z`, trans)).toBe(text);
  });

  it.each([
    [2, '5 s'],
    [42, '40 s'],
    [57, '1 min'],
    [112, '2 min'],
    [3600, '60 min']
  ])('of %d seconds says about %s', (seconds, text) => {
    expect(aboutText(seconds, trans)).toBe(text);
  });

  it.each([
    [-5000, '1 s'],
    [40_900, '40 s'],
    [119_000, '1 min'],
    [7_500_000, '2 h 5 min']
  ])('%d ms after a moment it was %s ago', (later, text) => {
    const since = '2026-11-21T10:00:00.000Z';
    expect(agoText(since, Date.parse(since) + later, trans)).toBe(text);
  });

  it('says which step of how many is under way', () => {
    expect(operationText(fixtures.attach, trans)).toBe('Step 2 of 4: Connecting to gpu-vm.');
    expect(operationText({ ...fixtures.attach, steps: [] }, trans)).toBe('Working on it.');
  });
});

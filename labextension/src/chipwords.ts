/** Where a notebook runs, in the words of toolbar and status bar. Pure. */
import { TranslationBundle } from '@jupyterlab/translation';

import { ICompute, IKernel, IOperation } from './api';
import { idleOf, isStoppedSoon, shortCountdown } from './idlewords';
import { VARIABLES_STEP, waitText } from './variablewords';
import { currentStep, dotted, gpuText, memoryText, nameOf, priceText, Tone } from './words';

export interface IChipText {
  tone: Tone;
  text: string;
  /** What a tooltip says, and those hear who do not see it: all of it, and the same as long as the state is. */
  label?: string;
}

/** Milliseconds before a machine stops: from then on that stands in the toolbar, where there is little room. */
const NEAR = 10 * 60_000;

/**
 * The toolbar's text: `Free tier · 4 GB`, `gpu-vm · starting 2 of 4`, `gpu-vm · T4 · ~$0.53/h`,
 * `gpu-vm · stops in 8 min`, `gpu-vm · reconnecting`.
 *
 * @param compute where the kernel runs; undefined when the machine is no longer listed
 * @param moving the operation that moves it, `target` where to, and how many cells wait meanwhile
 * @param now by the server's clock, in milliseconds
 */
export function chipText(
  kernel: IKernel,
  compute: ICompute | undefined,
  moving: { operation?: IOperation; target?: ICompute; waiting?: number } | undefined,
  now: number,
  trans: TranslationBundle
): IChipText {
  if (moving?.operation && kernel.moving_to !== null) {
    const at = currentStep(moving.operation);
    const step = at?.step.name;
    const verb =
      step === 'start'
        ? trans.__('starting')
        : step === VARIABLES_STEP
          ? trans.__('carrying')
          : trans.__('moving');
    const to = nameOf(moving.target, kernel.moving_to, trans);
    const how = at ? trans.__('%1 %2 of %3', verb, at.number, at.of) : verb;
    const wait = waitText(moving.waiting ?? 0, trans);
    return {
      tone: 'busy',
      // There is no room for all of it.
      text: dotted(to, wait ? verb : how, wait),
      ...(wait && { label: dotted(to, how, wait) })
    };
  }
  const name = nameOf(compute, kernel.compute, trans);
  switch (kernel.link.state) {
    case 'gone':
      return { tone: 'gone', text: dotted(name, trans.__('gone')) };
    case 'reconnecting':
      return { tone: 'warn', text: dotted(name, trans.__('reconnecting')) };
    case 'connecting':
      return { tone: 'warn', text: dotted(name, trans.__('connecting')) };
    default: {
      const idle = idleOf(compute);
      const stops = shortCountdown(idle, now, trans);
      const { gpu_model, memory_gib } = compute?.size ?? { gpu_model: null, memory_gib: null };
      const memory = memory_gib ? memoryText(memory_gib, trans) : '';
      const price = compute?.price ? priceText(compute.price, trans) : '';
      const what = dotted(name, gpu_model ? gpuText(gpu_model) : memory, price);
      const isSoon = isStoppedSoon(idle);
      const isNear = Date.parse(idle?.stops_at ?? '') - now <= NEAR;
      return {
        tone: isSoon ? 'warn' : 'on',
        text: isSoon || isNear ? dotted(name, stops.text || trans.__('stopping')) : what,
        ...((isSoon || stops.label) && { label: dotted(what, stops.label || trans.__('stopping')) })
      };
    }
  }
}

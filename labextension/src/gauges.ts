/**
 * From metrics to what is shown of them. Pure.
 */
import { TranslationBundle } from '@jupyterlab/translation';

import { FREE, IGPUUse, IMetrics, IUsage } from './api';
import { gpuText } from './words';

/** From where on a gauge warns, and from where on it does so in earnest. */
export const HIGH = 0.8;
export const FULL = 0.9;

export type Level = 'normal' | 'high' | 'full';

export interface IGauge {
  /** What it is of: “Memory”. */
  label: string;
  /** How much: “2.9 of 4 GB”. */
  value: string;
  /** Both, as a sentence's part: “Memory 2.9 of 4 GB”. */
  text: string;
  /** 0 to 1. */
  share: number;
  level: Level;
}

export function shareOf(usage: IUsage): number {
  return usage.total_gib > 0 ? usage.used_gib / usage.total_gib : 0;
}

export function levelOf(share: number): Level {
  return share >= FULL ? 'full' : share >= HIGH ? 'high' : 'normal';
}

/** “2.9 of 4 GB”. What is not all of it is not rounded up to that. */
export function usageText({ used_gib, total_gib }: IUsage, trans: TranslationBundle): string {
  const total = rounded(total_gib, Math.round);
  const used = rounded(used_gib, Math.round);
  const isAll = used >= total && used_gib < total_gib;
  return trans.__('%1 of %2 GB', isAll ? rounded(used_gib, Math.floor) : used, total);
}

function rounded(gib: number, round: (value: number) => number): number {
  return gib >= 10 ? round(gib) : round(gib * 10) / 10;
}

/** What is known of a compute, a gauge each; of the free tier its limits, of a machine what it is doing. */
export function gaugesOf(metrics: IMetrics | undefined, trans: TranslationBundle): IGauge[] {
  if (!metrics) {
    return [];
  }
  const gauges: IGauge[] = [];
  const isFree = metrics.compute === FREE;
  if (metrics.cpu !== null) {
    gauges.push(busy(trans.__('CPU'), metrics.cpu, trans));
  }
  if (metrics.memory) {
    gauges.push(space(trans.__('Memory'), metrics.memory, trans));
  }
  const gpu = together(metrics.gpus);
  if (gpu) {
    const name = gpuText(gpu.name).replace(/^Tesla\s+/i, '');
    const label = gpu.count > 1 ? trans.__('%1 × %2', gpu.count, name) : trans.__('GPU %1', name);
    if (gpu.utilization !== null) {
      gauges.push(busy(label, gpu.utilization, trans));
    }
    if (gpu.memory) {
      gauges.push(space(trans.__('GPU memory'), gpu.memory, trans));
    }
  }
  // A machine's disk is large, and only worth a line when it is nearly full.
  if (metrics.disk && (isFree || shareOf(metrics.disk) >= HIGH)) {
    gauges.push(space(isFree ? trans.__('Data') : trans.__('Disk'), metrics.disk, trans));
  }
  return gauges;
}

/** Much work is no reason to worry, so this never warns. */
function busy(label: string, share: number, trans: TranslationBundle): IGauge {
  const value = trans.__('%1 %', Math.round(share * 100));
  return { label, value, text: trans.__('%1 %2', label, value), share, level: 'normal' };
}

function space(label: string, usage: IUsage, trans: TranslationBundle): IGauge {
  const share = shareOf(usage);
  const value = usageText(usage, trans);
  return { label, value, text: trans.__('%1 %2', label, value), share, level: levelOf(share) };
}

interface IGPUs {
  name: string;
  count: number;
  utilization: number | null;
  memory: IUsage | null;
}

/** All GPUs as one: a machine's are alike, and eight pairs of bars say less than one. */
export function together(gpus: readonly IGPUUse[]): IGPUs | null {
  if (gpus.length === 0) {
    return null;
  }
  const loads = gpus.flatMap(({ utilization }) => (utilization === null ? [] : [utilization]));
  const memories = gpus.flatMap(({ memory }) => (memory ? [memory] : []));
  const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0);
  return {
    name: gpus[0].name,
    count: gpus.length,
    utilization: loads.length > 0 ? sum(loads) / loads.length : null,
    memory:
      memories.length === gpus.length
        ? {
            used_gib: sum(memories.map(memory => memory.used_gib)),
            total_gib: sum(memories.map(memory => memory.total_gib))
          }
        : null
  };
}

/**
 * How it is said when a machine is stopped by itself. Pure.
 *
 * What is left goes with the time and is for the eyes; the moment on the clock stays the same and is for those who hear the page.
 */
import { TranslationBundle } from '@jupyterlab/translation';

import { ICompute, IIdleStop } from './api';
import { clockText, withPoint } from './words';

/** What is known of a machine that is on. */
export function idleOf(compute: ICompute | undefined): IIdleStop | null {
  return compute?.power_state === 'running' ? compute.idle : null;
}

/** Whether it is stopped so soon that it should be said. */
export function isStoppedSoon(idle: IIdleStop | null): idle is IIdleStop {
  return idle?.state === 'stops_soon' || idle?.state === 'stop';
}

/** Whether “keep on” would do anything: a hard limit ends that too, and what is never stopped need not be kept. */
export function canKeep(idle: IIdleStop | null): boolean {
  return !!idle && idle.state !== 'never' && !(idle.hard && isStoppedSoon(idle));
}

/** “25 min”, “1 h 5 min”: from `now` (milliseconds) until a moment of the server, rounded up. */
export function leftText(until: string, now: number, trans: TranslationBundle): string {
  const minutes = Math.ceil((Date.parse(until) - now) / 60_000) || 0;
  if (minutes <= 1) {
    return trans.__('1 min');
  }
  return minutes < 60
    ? trans.__('%1 min', minutes)
    : trans.__('%1 h %2 min', Math.floor(minutes / 60), minutes % 60);
}

/** What stays the same while the state is: why it stays on, as far as that is worth a word. */
export function stayText(compute: ICompute, trans: TranslationBundle): string {
  const idle = idleOf(compute);
  switch (idle?.state) {
    case 'never':
      return withPoint(idle.text);
    case 'busy':
      // Where notebooks of this server run, that they do says it.
      return compute.attached.length === 0 ? withPoint(idle.text) : '';
    case 'kept':
      return idle.kept_until
        ? trans.__('Kept on until %1.', clockText(idle.kept_until))
        : withPoint(idle.text);
    default:
      return '';
  }
}

/** When it is stopped by itself, for who is about to use it. */
export function autoStopText(compute: ICompute, trans: TranslationBundle): string {
  const { idle, power_state } = compute;
  if (!idle) {
    return '';
  }
  const { state, text, idle_minutes, hard_limit_hours } = idle;
  const isOff = power_state !== 'running';
  return [
    isOff && idle_minutes === null
      ? trans.__('It does not stop by itself: stop it when you are done.')
      : idle_minutes === null || (state === 'never' && !isOff)
        ? withPoint(text)
        : trans.__('It stops by itself after %1 min in which nobody uses it.', idle_minutes),
    hard_limit_hours === null
      ? ''
      : trans.__('%1 h after its start it stops whatever runs.', hard_limit_hours)
  ]
    .filter(Boolean)
    .join(' ');
}

/** “Stops in 25 min.”; empty where nothing is counted down. */
export function countdownText(
  idle: IIdleStop | null,
  now: number,
  trans: TranslationBundle
): string {
  if (!idle?.stops_at) {
    return '';
  }
  const left = leftText(idle.stops_at, now, trans);
  return idle.hard ? trans.__('Its time limit ends in %1.', left) : trans.__('Stops in %1.', left);
}

/** The same with the moment. */
export function stopText(idle: IIdleStop | null, trans: TranslationBundle): string {
  if (!idle?.stops_at) {
    return '';
  }
  const at = clockText(idle.stops_at);
  return idle.hard ? trans.__('Its time limit ends at %1.', at) : trans.__('Stops at %1.', at);
}

/** “stops in 18 min” for a toolbar, and the same with the moment. */
export function shortCountdown(
  idle: IIdleStop | null,
  now: number,
  trans: TranslationBundle
): { text: string; label: string } {
  return idle?.stops_at
    ? {
        text: trans.__('stops in %1', leftText(idle.stops_at, now, trans)),
        label: trans.__('stops at %1', clockText(idle.stops_at))
      }
    : { text: '', label: '' };
}

/** The text of a machine that is stopped soon; without `now`, with the moment. */
export function soonText(idle: IIdleStop, trans: TranslationBundle, now?: number): string {
  if (idle.state === 'stop' || !idle.stops_at) {
    return withPoint(idle.text);
  }
  if (idle.hard) {
    return now === undefined
      ? trans.__(
          'Its time limit ends at %1. It is stopped then, whatever runs.',
          clockText(idle.stops_at)
        )
      : trans.__(
          'Its time limit ends in %1. It is stopped then, whatever runs.',
          leftText(idle.stops_at, now, trans)
        );
  }
  return now === undefined
    ? trans.__('No activity. Stops at %1.', clockText(idle.stops_at))
    : trans.__('No activity. Stops in %1.', leftText(idle.stops_at, now, trans));
}

/** What a person must know of its safety stop: that there is none, or that it comes whatever is done. Empty otherwise. */
export function safetyWarning(compute: ICompute): string {
  const safety = idleOf(compute)?.safety;
  return safety && (safety.kind === 'none' || !safety.averted) ? withPoint(safety.text) : '';
}

/** “Keep on 1 h”: how long, in hours. */
export function keepLabel(hours: number, trans: TranslationBundle): string {
  return trans.__('Keep on %1 h', hours);
}

/**
 * The state of a machine's card, as a table: what is the case, how it is said, and the one thing to do next. Pure.
 *
 * The first row that applies counts, so their order is the order of what matters to a person: what is being done, then whether
 * the kernel there can be reached, then what stands in the way, then the machine itself.
 */
import { TranslationBundle } from '@jupyterlab/translation';

import { canResize } from './actions';
import { ICompute, IKernel, IOperation } from './api';
import { idleOf, isStoppedSoon, soonText } from './idlewords';
import { quotaOf, quotaPage, Refusal, refusalOf } from './refusals';
import { DefaultAction } from './settings';
import { onDetail, onText, passingText, resizeText, stillBilled, stoppedText } from './statewords';
import {
  aboutText,
  agoText,
  clockText,
  operationText,
  powerText,
  shortSizeName,
  Tone
} from './words';

/** The one button of a card. `attach` starts the machine first where it is off; `quota` is a page of Azure's. */
export type PrimaryAction =
  | 'attach'
  | 'detach'
  | 'start'
  | 'release'
  | 'reconnect'
  | 'resize'
  | 'cpuSizes'
  | 'quota'
  | 'keep'
  | 'autoStop';

export type StateName =
  | 'resizing'
  | 'busy'
  | 'ended'
  | 'unreachable'
  | 'connecting'
  | 'idleSoon'
  | 'attached'
  | 'overBudget'
  | 'freeAccount'
  | 'overQuota'
  | 'noCapacity'
  | 'notReleasable'
  | 'notAllowed'
  | 'hibernated'
  | 'windows'
  | 'running'
  | 'deallocated'
  | 'stopped'
  | 'changing'
  | 'host'
  | 'unknown';

/** What a card's state depends on. */
export interface ISituation {
  compute: ICompute;
  /** The operation that changes this compute or moves something to it. */
  operation?: IOperation;
  /** How long such an operation took before, in seconds, where that is known. */
  usual?: number;
  /** The newest operation there, if it failed and was not dismissed. */
  failed?: IOperation;
  /** A kernel that runs there: the current notebook's if it is one of them. */
  kernel?: IKernel;
  /** The current notebook's kernel, wherever it runs; absent when nothing can be moved. */
  current?: IKernel;
  /** What the person wants the button of a machine that is off to do, where both can be done. */
  defaultAction?: DefaultAction;
}

export interface IComputeState {
  name: StateName;
  tone: Tone;
  /** What is said, also to screen readers: it does not change while the state is the same. */
  text: string;
  /** What is shown in place of it at a moment (milliseconds since 1970), where that goes with the time. */
  shown?: (now: number) => string;
  /** What can be read beside the text and is not announced. */
  detail: string;
  /** Words of the text that matter most. */
  strong?: string;
  primary: PrimaryAction | null;
  /** Where the action leads, if that is a page elsewhere. */
  link?: string;
  /** Whether the text says what the failed operation failed of, so that the rest is detail. */
  explains: boolean;
}

type Answer<T> = T | ((situation: ISituation) => T);

interface IRow {
  name: StateName;
  applies: (situation: ISituation) => boolean;
  tone: Answer<Tone>;
  text: (situation: ISituation, trans: TranslationBundle) => string;
  primary: Answer<PrimaryAction | null>;
  /** Null where nothing goes with the time. */
  shown?: (situation: ISituation, trans: TranslationBundle, now: number) => string | null;
  detail?: (situation: ISituation, trans: TranslationBundle) => string;
  strong?: (trans: TranslationBundle) => string;
  link?: (situation: ISituation) => string | null;
}

const isHere = ({ compute, current }: ISituation): boolean => current?.compute === compute.id;

/** On its way back already, the notebook needs no button for it. */
const wayBack = (s: ISituation): PrimaryAction | null =>
  isHere(s) && !s.current?.moving_to ? 'detach' : null;

const isMovable = ({ current }: ISituation): boolean => !!current && !current.moving_to;

const isOff = ({ power_state }: ICompute): boolean =>
  power_state === 'deallocated' || power_state === 'stopped';

const denies = ({ compute }: ISituation, action: 'start' | 'stop'): boolean =>
  compute.not_allowed.includes(action);

const otherSize = (s: ISituation, action: PrimaryAction): PrimaryAction | null =>
  canResize(s.compute, s.operation) && !s.compute.not_allowed.includes('resize') ? action : null;

/** What kept it from being started; of one that runs by now, that is over. */
const refusal = ({ compute, failed }: ISituation): Refusal | null =>
  compute.power_state === 'running' || compute.power_state === 'starting'
    ? null
    : refusalOf(failed?.error);

const isForbidden = ({ failed }: ISituation): boolean =>
  failed?.error?.code === 'AuthorizationFailed';

export const STATES: readonly IRow[] = [
  {
    name: 'resizing',
    applies: s => s.operation?.kind === 'resize',
    tone: 'busy',
    text: ({ operation, compute }, trans) => resizeText(operation!, compute, trans),
    primary: null
  },
  {
    name: 'busy',
    applies: s => !!s.operation,
    tone: 'busy',
    text: ({ operation, usual }, trans) =>
      usual
        ? trans.__('%1 Usually %2.', operationText(operation!, trans), aboutText(usual, trans))
        : operationText(operation!, trans),
    primary: null
  },
  {
    name: 'ended',
    applies: s => s.kernel?.link.state === 'gone',
    tone: 'gone',
    text: (_, trans) => trans.__('The kernel that ran here has ended, and its variables with it.'),
    primary: wayBack
  },
  {
    name: 'unreachable',
    applies: s => s.kernel?.link.state === 'reconnecting',
    tone: 'warn',
    text: ({ kernel }, trans) =>
      trans.__(
        'Lost contact at %1. Your kernel may still be running; reconnecting.',
        clockText(kernel!.link.since)
      ),
    shown: ({ kernel }, trans, now) =>
      trans.__(
        'Lost contact %1 ago. Your kernel may still be running; reconnecting (%2).',
        agoText(kernel!.link.since, now, trans),
        kernel!.link.attempt
      ),
    primary: 'reconnect'
  },
  {
    name: 'connecting',
    applies: s => s.kernel?.link.state === 'connecting',
    tone: 'warn',
    text: (_, trans) => trans.__('Connecting.'),
    primary: wayBack
  },
  {
    // Before what runs there: once it is off, nothing does.
    name: 'idleSoon',
    applies: s => isStoppedSoon(idleOf(s.compute)),
    tone: 'warn',
    text: ({ compute }, trans) => soonText(compute.idle!, trans),
    shown: ({ compute }, trans, now) => soonText(compute.idle!, trans, now),
    strong: stillBilled,
    primary: ({ compute: { idle }, failed }) =>
      idle!.state === 'stop' && failed?.kind === 'stop'
        ? 'release'
        : idle!.hard
          ? 'autoStop'
          : 'keep'
  },
  {
    name: 'attached',
    applies: isHere,
    tone: 'on',
    text: ({ compute }, trans) => onText(compute, trans),
    shown: ({ compute }, trans, now) => passingText(compute, trans, now),
    detail: ({ compute }, trans) => onDetail(compute, trans),
    primary: wayBack
  },
  {
    name: 'overBudget',
    applies: s => refusal(s) === 'overBudget',
    tone: 'warn',
    text: (_, trans) => trans.__('Off, and not started: a budget is spent.'),
    primary: null
  },
  {
    name: 'freeAccount',
    applies: s => refusal(s) === 'freeAccount',
    tone: 'warn',
    text: (_, trans) => trans.__('Azure free accounts cannot use GPU sizes.'),
    primary: s => otherSize(s, 'cpuSizes')
  },
  {
    name: 'overQuota',
    applies: s => refusal(s) === 'overQuota',
    tone: 'warn',
    text: ({ failed }, trans) => {
      const quota = quotaOf(failed!.error!);
      return quota
        ? trans.__('Quota is %1 of %2 vCPUs for this family.', quota.limit, quota.needed)
        : trans.__('The quota for this family of sizes is used up.');
    },
    primary: s => (quotaPage(s.failed!.error!) ? 'quota' : null),
    link: s => quotaPage(s.failed!.error!)
  },
  {
    name: 'noCapacity',
    applies: s => refusal(s) === 'noCapacity',
    tone: 'warn',
    text: ({ compute }, trans) =>
      compute.size && compute.location
        ? trans.__('Azure has no %1 in %2 now.', shortSizeName(compute.size.name), compute.location)
        : trans.__('Azure has no machine of this size now.'),
    primary: s => otherSize(s, 'resize')
  },
  {
    name: 'notReleasable',
    applies: s => s.compute.power_state === 'stopped' && denies(s, 'stop'),
    tone: 'warn',
    text: ({ compute }, trans) =>
      trans.__('%1 You can see this machine but not release it.', stoppedText(compute, trans)),
    strong: stillBilled,
    primary: null
  },
  {
    name: 'notAllowed',
    applies: s => s.compute.power_state === 'deallocated' && denies(s, 'start'),
    tone: 'off',
    text: (_, trans) => trans.__('You can see this machine but not start it.'),
    primary: null
  },
  {
    name: 'hibernated',
    applies: s => s.compute.hibernated,
    tone: 'off',
    text: (_, trans) => trans.__('Asleep. Memory is kept; it can only be started as it is.'),
    primary: 'start'
  },
  {
    name: 'windows',
    applies: s => s.compute.os === 'windows',
    tone: ({ compute }) =>
      compute.power_state === 'running' ? 'on' : compute.power_state === 'stopped' ? 'warn' : 'off',
    text: ({ compute }, trans) =>
      trans.__(
        '%1 Start, stop and resize work; notebooks cannot run there yet.',
        compute.power_state === 'stopped' ? stoppedText(compute, trans) : powerText(compute, trans)
      ),
    strong: stillBilled,
    primary: ({ compute }) =>
      compute.power_state === 'stopped' ? 'release' : isOff(compute) ? 'start' : null
  },
  {
    name: 'running',
    applies: s => s.compute.power_state === 'running',
    tone: 'on',
    text: ({ compute }, trans) => onText(compute, trans),
    shown: ({ compute }, trans, now) => passingText(compute, trans, now),
    detail: ({ compute }, trans) => onDetail(compute, trans),
    primary: s => (isMovable(s) ? 'attach' : null)
  },
  {
    name: 'deallocated',
    applies: s => s.compute.power_state === 'deallocated',
    tone: 'off',
    text: (_, trans) => trans.__('Off. Disk and static address still cost a little.'),
    primary: s => (isMovable(s) ? (s.defaultAction ?? 'attach') : 'start')
  },
  {
    name: 'stopped',
    applies: s => s.compute.power_state === 'stopped',
    tone: 'warn',
    text: ({ compute }, trans) => stoppedText(compute, trans),
    strong: stillBilled,
    primary: 'release'
  },
  {
    name: 'changing',
    applies: s => ['starting', 'stopping', 'deallocating'].includes(s.compute.power_state),
    tone: 'busy',
    text: ({ compute }, trans) => powerText(compute, trans),
    primary: null
  },
  {
    // Nobody asks a host how it is before somebody attaches.
    name: 'host',
    applies: s => s.compute.kind === 'host',
    tone: 'off',
    text: (_, trans) => trans.__('Reached over SSH when you attach.'),
    primary: s => (isMovable(s) ? 'attach' : null)
  },
  {
    // A VM of which Azure says nothing is better left alone.
    name: 'unknown',
    applies: () => true,
    tone: 'off',
    text: ({ compute }, trans) => powerText(compute, trans),
    primary: null
  }
];

/** The state of a card and its one button. */
export function computeState(situation: ISituation, trans: TranslationBundle): IComputeState {
  const row = STATES.find(({ applies }) => applies(situation))!;
  const passing = (now: number): string | null => row.shown?.(situation, trans, now) ?? null;
  return {
    name: row.name,
    tone: answer(row.tone, situation),
    text: row.text(situation, trans),
    shown: passing(0) === null ? undefined : now => passing(now) ?? '',
    detail: row.detail?.(situation, trans) ?? '',
    strong: row.strong?.(trans),
    primary: answer(row.primary, situation),
    link: row.link?.(situation) ?? undefined,
    explains:
      (row.name === refusal(situation) && row.name !== 'overBudget') ||
      (row.name === 'notAllowed' && isForbidden(situation))
  };
}

function answer<T>(given: Answer<T>, situation: ISituation): T {
  return typeof given === 'function' ? (given as (situation: ISituation) => T)(situation) : given;
}

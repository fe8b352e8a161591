/** What emulated Azures hold, as docs/emulator.md says it. All machines here are in Azure's lists only. */

const LAB = { id: '0b1f6471-1bf0-4dda-aec3-cb9272f09590', name: 'Lab' };
const TRIAL = {
  id: '6f3d2c0a-58c1-4f0e-8f55-0d8d2f1b7c11',
  name: 'Trial',
  quota_id: 'FreeTrial_2014-09-01'
};

const DSVM = {
  resource_group: 'lab',
  subscription: 'Lab',
  image: 'microsoft-dsvm:ubuntu-2204:2204-gen2',
  ssh: false
};

/** Two machines for whoever signs in. */
export const SIGN_IN = {
  subscriptions: [LAB],
  machines: [
    { ...DSVM, name: 'cpu-vm', size: 'Standard_D4ds_v5' },
    { ...DSVM, name: 'gpu-vm', size: 'Standard_NC4as_T4_v3' }
  ]
};

/** A machine in each state that a machine can be in by itself, and those to which something will happen. */
export const STATES = {
  subscriptions: [LAB, TRIAL],
  machines: [
    { ...DSVM, name: 'off-vm', size: 'Standard_NC4as_T4_v3' },
    { ...DSVM, name: 'stopped-vm', size: 'Standard_NC4as_T4_v3', location: 'northeurope', power: 'stopped' },
    { ...DSVM, name: 'on-vm', size: 'Standard_D4ds_v5', power: 'running' },
    { ...DSVM, name: 'asleep-vm', size: 'Standard_D8ds_v5', hibernation: true, hibernated: true },
    {
      ...DSVM,
      name: 'win-vm',
      size: 'Standard_D4ds_v5',
      os: 'Windows',
      image: 'microsoft-dsvm:dsvm-win-2022:winserver-2022'
    },
    { ...DSVM, name: 'starting-vm', size: 'Standard_D16ds_v5' },
    { ...DSVM, name: 'resized-vm', size: 'Standard_D2ds_v5', power: 'running' },
    { ...DSVM, name: 'scarce-vm', size: 'Standard_NC24ads_A100_v4' },
    { ...DSVM, name: 'crowded-vm', size: 'Standard_NC8as_T4_v3', location: 'northeurope' },
    { ...DSVM, name: 'guest-vm', size: 'Standard_D4ds_v5' },
    { ...DSVM, name: 'trial-vm', size: 'Standard_NC4as_T4_v3', subscription: 'Trial' }
  ],
  capacity: [{ size: 'Standard_NC24ads_A100_v4', machines: 0 }],
  // The stopped machine still has four of them.
  quotas: [{ family: 'Standard NCASv3_T4 Family', location: 'northeurope', limit: 4, subscription: 'Lab' }],
  faults: [{ vm: 'guest-vm', operation: 'start', code: 'AuthorizationFailed', times: -1 }],
  timings: { start: 0.5, deallocate: 0.5, patch: 0.5 }
};

/** Two machines of a size that costs ten cents a second. */
export const DEAR = {
  subscriptions: [LAB],
  machines: [
    { ...DSVM, name: 'on-vm', size: 'Standard_D4ds_v5', power: 'running' },
    { ...DSVM, name: 'off-vm', size: 'Standard_D4ds_v5' }
  ],
  prices: [{ size: 'Standard_D4ds_v5', usd: 360 }]
};

/** Nothing: the account sees a subscription, and no machine in it. */
export const EMPTY = { subscriptions: [LAB], machines: [] };

/** Three hundred machines in six subscriptions: a GPU in every third, a quarter of them on. */
export const MANY = {
  subscriptions: [...Array(6).keys()].map(n => ({
    id: `0b1f6471-1bf0-4dda-aec3-cb9272f0959${n}`,
    name: `Lab ${n}`
  })),
  machines: [...Array(6).keys()].flatMap(n => [
    { ...DSVM, name: `gpu-${n}-{n}`, count: 17, subscription: `Lab ${n}`, size: 'Standard_NC4as_T4_v3' },
    { ...DSVM, name: `cpu-${n}-{n}`, count: 21, subscription: `Lab ${n}`, size: 'Standard_D4ds_v5' },
    { ...DSVM, name: `on-${n}-{n}`, count: 12, subscription: `Lab ${n}`, size: 'Standard_D8ds_v5', power: 'running' }
  ])
};

/** As long as Azure lets names be. */
export const LONG_NAMES = {
  subscriptions: [{ ...LAB, name: 'Institute of Computational Linguistics and Formal Language Theory (Research)' }],
  machines: [
    {
      ...DSVM,
      name: 'a-machine-with-a-name-that-is-as-long-as-Azure-lets-it-be-64-char',
      resource_group: 'a-resource-group-with-quite-a-long-name-as-they-are-in-large-organisations-prod-weu-001',
      subscription: 'Institute of Computational Linguistics and Formal Language Theory (Research)',
      size: 'Standard_NC64as_T4_v3'
    },
    {
      ...DSVM,
      name: 'unbrokennamewithoutanyplacewhereitcouldbebrokenintotwolines01234',
      subscription: 'Institute of Computational Linguistics and Formal Language Theory (Research)',
      size: 'Standard_NC24ads_A100_v4',
      power: 'stopped'
    }
  ]
};

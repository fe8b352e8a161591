/**
 * Holds `api.ts` against `jupyter_dsvm/openapi.yaml`: every fixture that TypeScript accepts must be valid there, and
 * every field and enumeration of the document must be one of ours.
 */
import Ajv2020, { ValidateFunction } from 'ajv/dist/2020';
import * as fs from 'fs';
import { load } from 'js-yaml';
import * as path from 'path';

import { CHANGED_SCHEMA_ID, IChanged, ISignInRequest } from '../api';
import * as fixtures from './fixtures';

const PACKAGE = path.join(__dirname, '..', '..', '..', 'jupyter_dsvm');

interface ISchema {
  properties: Record<string, { enum?: string[] }>;
  required: string[];
}

interface IDocument {
  paths: Record<
    string,
    Record<string, { requestBody: { content: Record<string, { schema: object }> } }>
  >;
  components: { schemas: Record<string, ISchema> };
}

const read = (name: string): unknown => load(fs.readFileSync(path.join(PACKAGE, name), 'utf-8'));
const openapi = read('openapi.yaml') as IDocument;
const schemas = openapi.components.schemas;

const ajv = new Ajv2020({ strict: false, allErrors: true });
ajv.addSchema(openapi, 'openapi');

function validator(schema: string): ValidateFunction {
  return ajv.compile({ $ref: `openapi#/components/schemas/${schema}` });
}

function expectValid(validate: ValidateFunction, data: unknown): void {
  validate(data);
  expect(validate.errors ?? []).toEqual([]);
}

const EXAMPLES: [string, unknown][] = [
  ['Error', fixtures.problem],
  ...fixtures.computeList.computes.map((compute): [string, unknown] => ['Compute', compute]),
  ['Compute', { ...fixtures.gpu, problem: fixtures.problem }],
  ['Compute', { ...fixtures.gpu, idle: fixtures.idleStop }],
  ['StopLoss', fixtures.stopLoss],
  ['StopLoss', fixtures.nobodyKnows],
  ['Spend', fixtures.spend],
  ['ComputeList', { ...fixtures.computeList, problems: [fixtures.problem] }],
  ['Kernel', fixtures.kernel],
  ['Kernel', { ...fixtures.kernel, path: null, moving_to: fixtures.gpu.id }],
  ['Kernel', { ...fixtures.kernel, saved: fixtures.savedVariables }],
  ['SavedVariables', fixtures.savedVariables],
  ['Variables', fixtures.variables],
  ['Variables', fixtures.noVariables],
  ['KernelList', fixtures.kernelList],
  ['KernelspecList', fixtures.kernelspecList],
  ['Operation', fixtures.attach],
  ['Operation', { ...fixtures.attach, state: 'failed', error: fixtures.problem, progress: null }],
  ['OperationList', { revision: 2, operations: [fixtures.attach] }],
  ['SignIn', fixtures.signIn],
  ['SizeOfferList', fixtures.sizeOffers],
  ['NewCompute', fixtures.newCompute],
  ['Creation', fixtures.creation],
  ['WorkspaceList', fixtures.workspaceList],
  ['WorkspaceEstimate', fixtures.workspaceEstimate],
  ['CellRunList', fixtures.outputs],
  ['CellRun', { ...fixtures.outputs.rows[0], source: null, cut: null }],
  ['SavedOutputs', fixtures.savedOutputs],
  ['Metrics', fixtures.metrics],
  ['Metrics', fixtures.freeMetrics],
  ['ModuleList', fixtures.modules],
  ['Advice', fixtures.advice],
  ['QuestionList', fixtures.questionList],
  ['Terminal', fixtures.terminal],
  ['SSHCommand', fixtures.sshCommand],
  ['Creation', { ...fixtures.creation, subscription: null, location: null, sizes: [] }]
];

describe('the types of the REST API', () => {
  it.each(EXAMPLES)('%s: what TypeScript accepts is valid in openapi.yaml', (schema, example) => {
    expectValid(validator(schema), example);
  });

  it('knows every field of every schema', () => {
    const examples: Record<string, object> = {
      Error: fixtures.problem,
      Size: fixtures.gpu.size!,
      Price: fixtures.gpu.price!,
      Compute: fixtures.gpu,
      IdleStop: fixtures.idleStop,
      StopLoss: fixtures.stopLoss,
      SafetyStop: fixtures.idleStop.safety!,
      Spend: fixtures.spend,
      ComputeSpend: fixtures.spend.computes[0],
      Budget: fixtures.spend.budgets[0],
      ComputeList: fixtures.computeList,
      LinkState: fixtures.local,
      Kernel: fixtures.kernel,
      SavedVariables: fixtures.savedVariables,
      Variable: fixtures.variables.variables[0],
      Variables: fixtures.variables,
      KernelList: fixtures.kernelList,
      Kernelspec: fixtures.kernelspecList.kernelspecs[0],
      KernelspecList: fixtures.kernelspecList,
      Step: fixtures.attach.steps[0],
      Operation: fixtures.attach,
      OperationList: fixtures.operationList,
      SignIn: fixtures.signIn,
      SizeOffer: fixtures.sizeOffer,
      SizeOfferList: fixtures.sizeOffers,
      NewCompute: fixtures.newCompute,
      SubscriptionOffer: fixtures.creation.subscriptions[0],
      LocationOffer: fixtures.creation.locations[0],
      Creation: fixtures.creation,
      WorkspaceConflict: fixtures.workspaceList.workspaces[0].conflicts[0],
      WorkspaceFile: fixtures.workspaceList.workspaces[0].left_there[0],
      Workspace: fixtures.workspaceList.workspaces[0],
      WorkspaceList: fixtures.workspaceList,
      WorkspaceEstimate: fixtures.workspaceEstimate,
      CellRunList: fixtures.outputs,
      CellRun: fixtures.outputs.rows[0],
      InputRequest: fixtures.outputs.rows[0].prompts[0],
      CutOutputs: fixtures.outputs.rows[0].cut!,
      SavedOutputs: fixtures.savedOutputs,
      SavedFile: fixtures.savedOutputs.files[0],
      FileState: fixtures.savedOutputs.files[0].states[0],
      Metrics: fixtures.metrics,
      Usage: fixtures.metrics.memory!,
      GPUUse: fixtures.metrics.gpus[0],
      Module: fixtures.modules.modules[0],
      ModuleList: fixtures.modules,
      GPUEvidence: fixtures.advice.evidence[0],
      Fit: fixtures.advice.fits[0],
      Advice: fixtures.advice,
      Terminal: fixtures.terminal,
      SSHCommand: fixtures.sshCommand,
      Question: fixtures.questionList.questions[0],
      QuestionList: fixtures.questionList
    };
    expect(Object.keys(schemas).sort()).toEqual(Object.keys(examples).sort());
    for (const [name, example] of Object.entries(examples)) {
      expect([name, Object.keys(example).sort()]).toEqual([
        name,
        Object.keys(schemas[name].properties).sort()
      ]);
    }
  });

  it('knows every value of every enumeration', () => {
    expect(schemas.Compute.properties.kind.enum).toEqual(['free', 'dsvm', 'host']);
    expect(schemas.CellRun.properties.state.enum).toEqual(['queued', 'running', 'done', 'aborted']);
    expect(schemas.Compute.properties.power_state.enum).toEqual([
      'starting',
      'running',
      'stopping',
      'stopped',
      'deallocating',
      'deallocated',
      'unknown'
    ]);
    expect(schemas.Compute.properties.os.enum).toEqual(['linux', 'windows']);
    expect(schemas.LinkState.properties.state.enum).toEqual([
      'local',
      'connecting',
      'connected',
      'reconnecting',
      'gone'
    ]);
    expect(schemas.Step.properties.state.enum).toEqual(['pending', 'running', 'done', 'failed']);
    expect(schemas.Operation.properties.kind.enum).toEqual([
      'start',
      'stop',
      'restart',
      'resize',
      'create',
      'access',
      'forget',
      'attach',
      'detach',
      'install',
      'sync',
      'load',
      'update'
    ]);
    expect(schemas.SignIn.properties.state.enum).toEqual([
      'signed_out',
      'prompting',
      'signed_in',
      'failed'
    ]);
    expect(schemas.IdleStop.properties.state.enum).toEqual([
      'never',
      'busy',
      'kept',
      'idle',
      'stops_soon',
      'stop'
    ]);
    expect(schemas.SafetyStop.properties.kind.enum).toEqual(['ours', 'theirs', 'none']);
    expect(schemas.Question.properties.kind.enum).toEqual(['start', 'resize', 'carry']);
    expect(schemas.Variables.properties.state.enum).toEqual([
      'ready',
      'busy',
      'unsupported',
      'unreachable'
    ]);
    expect(schemas.Budget.properties.state.enum).toEqual(['ok', 'warning', 'exceeded']);
    expect(schemas.Budget.properties.period.enum).toEqual(['day', 'month']);
    expect(schemas.Operation.properties.state.enum).toEqual([
      'running',
      'done',
      'failed',
      'cancelled'
    ]);
  });

  it('sends a move as the document wants it', () => {
    const { schema } =
      openapi.paths['/kernels/{kernel_id}/compute'].put.requestBody.content['application/json'];
    expectValid(ajv.compile(schema), fixtures.moveRequest);
    expectValid(ajv.compile(schema), { compute: fixtures.free.id, carry: true });
  });

  it('asks for saved variables as the document wants it', () => {
    const { schema } =
      openapi.paths['/kernels/{kernel_id}/variables/load'].post.requestBody.content[
        'application/json'
      ];
    for (const body of [{}, { names: ['df'] }]) {
      expectValid(ajv.compile(schema), body);
    }
  });

  it('asks for advice as the document wants it, and knows its words', () => {
    const { schema } =
      openapi.paths['/kernels/{kernel_id}/advice'].post.requestBody.content['application/json'];
    expectValid(ajv.compile(schema), fixtures.adviceRequest);
    expect(schemas.Advice.properties.gpu.enum).toEqual(['needed', 'gains', 'no_gain', 'unknown']);
    expect(schemas.GPUEvidence.properties.weight.enum).toEqual(['needs', 'gains', 'could', 'none']);
  });

  it('asks for modules, and to install some, as the document wants it', () => {
    for (const [name, body] of [
      ['modules', fixtures.modulesRequest],
      ['install', fixtures.installRequest]
    ] as const) {
      const { schema } =
        openapi.paths[`/computes/{id}/${name}`].post.requestBody.content['application/json'];
      expectValid(ajv.compile(schema), body);
    }
  });

  it('asks for files as the document wants it', () => {
    for (const [name, body] of [
      ['sync', fixtures.syncRequest],
      ['conflicts', fixtures.conflictRequest],
      ['fetch', fixtures.fetchRequest]
    ] as const) {
      const { schema } =
        openapi.paths[`/workspaces/{id}/${name}`].post.requestBody.content['application/json'];
      expectValid(ajv.compile(schema), body);
    }
  });

  it.each<ISignInRequest>([{}, { tenant: 'contoso.com', keep: true }, { token: 'eyJ0' }])(
    'asks to sign in as the document wants it (%#)',
    body => {
      const { schema } = openapi.paths['/signin'].post.requestBody.content['application/json'];
      expectValid(ajv.compile(schema), body);
    }
  );

  it('listens to the event that the server sends', () => {
    const schema = read('events/changed.yaml') as { $id: string };
    expect(schema.$id).toBe(CHANGED_SCHEMA_ID);
    for (const what of [
      'computes',
      'kernels',
      'operations',
      'signin',
      'questions',
      'workspaces',
      'spend'
    ] as const) {
      const event: IChanged = { what, id: fixtures.gpu.id, revision: 3 };
      // `version` and `personal-data` are Jupyter's own words; only the data is checked here.
      expectValid(ajv.compile(schema), event);
      ajv.removeSchema(schema.$id);
    }
  });
});
